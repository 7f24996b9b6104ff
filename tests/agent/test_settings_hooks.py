"""What is set for hooks; what makes no sense is refused with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.settings.hooks import VALUES, filled

HOOK = "[hooks.sign]\nimage = 'cosign:2'\n"
IMAGE = "write an image, such as `registry.example/tools/cosign:v2.4.1`."
ARGV = "write a list of a program and its arguments, in which only `{reference}`, `{tag}`, "


def test_a_hook_is_for_every_image_and_must_succeed_if_nothing_else_is_said(load):
    hook = load(f"{HOOK}argv = ['cosign', 'sign', '{{reference}}']").hooks["sign"]
    assert (hook.push, hook.required, hook.registry_login) == (["**"], True, False)
    assert (hook.env, hook.secret_files, hook.timeout) == ({}, {}, None)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{tag}", "T"),
        ("--digest={digest} of {build}", "--digest=D of B"),
        ("{{tag}}", "{tag}"),
        ("{{{tag}}}", "{T}"),
        ('{{"a": "{tag}"}}', '{"a": "T"}'),
        ("plain $TAG `x`", "plain $TAG `x`"),
    ],
)
def test_a_template_is_filled(template, text):
    assert filled(template, {"tag": "T", "digest": "D", "build": "B"}) == text


@given(st.text())
def test_what_a_value_holds_is_never_read_as_a_template(value):
    assert filled("<{tag}|{caller}>", {"tag": value, "caller": "{tag}"}) == f"<{value}|{{tag}}>"


@given(st.text())
def test_a_text_with_its_braces_doubled_stands_for_itself(text):
    assert filled(text.replace("{", "{{").replace("}", "}}"), {}) == text


@pytest.mark.parametrize("name", VALUES)
def test_every_value_may_be_used(load, name):
    assert load(f"{HOOK}argv = ['x', '{{{name}}}']").hooks["sign"].argv == ["x", f"{{{name}}}"]


@pytest.mark.parametrize(
    "argument",
    ["{}", "{digets}", "{tag.x}", "{tag!r}", "{tag:>9}", "{0}", "{", "}", "{tag", "tag}", "{{tag}", "{ tag }"],
)
def test_a_template_that_stands_for_nothing_is_refused(refused, argument):
    (told,) = refused(f"{HOOK}argv = ['x', '{argument}']")
    assert f"sibling.toml:3: hooks.sign.argv = '{argument}' is not allowed; {ARGV}" in told


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[hooks.sign]\nargv = ['x']", f"sibling.toml:1: hooks.sign.image is missing; {IMAGE}"),
        (HOOK, f"sibling.toml:1: hooks.sign.argv is missing; {ARGV}"),
        (f"{HOOK}argv = []", f"sibling.toml:3: hooks.sign.argv = [] is not allowed; {ARGV}"),
        (f"{HOOK}argv = 'cosign sign'", f"sibling.toml:3: hooks.sign.argv = 'cosign sign' is not allowed; {ARGV}"),
        (
            "[hooks.sign]\nimage = 'sibling.local/x'\nargv = ['x']",
            f"sibling.toml:2: hooks.sign.image = 'sibling.local/x' is not allowed; {IMAGE}",
        ),
        (
            "[hooks.sign]\nimage = 'UPPER'\nargv = ['x']",
            f"sibling.toml:2: hooks.sign.image = 'UPPER' is not allowed; {IMAGE}",
        ),
        ("[hooks.Sign]\nimage = 'x'\nargv = ['x']", "sibling.toml:1: hooks.Sign has a name that is not allowed; "),
        (
            f"{HOOK}argv = ['x']\nenv = {{ A = '1', B = '2' }}\nsecret_files = {{ B = '/b' }}",
            "sibling.toml:5: B: in hooks.sign.env and in hooks.sign.secret_files; take one of them.",
        ),
        (
            f"{HOOK}argv = ['x']\nregistry_login = true\nenv = {{ DOCKER_CONFIG = '/x' }}",
            "sibling.toml:4: hooks.sign.registry_login sets DOCKER_CONFIG; leave that variable out, or the login.",
        ),
        (
            f"[builds]\ntimeout = '1m'\nmax_timeout = '2m'\n{HOOK}argv = ['x']\ntimeout = '3m'",
            "sibling.toml:7: hooks.sign.timeout, 180 s, is over builds.max_timeout, 120 s; lower the first or raise",
        ),
        (
            f"{HOOK}argv = ['x']\nartifacts = ['../x']",
            "sibling.toml:4: hooks.sign.artifacts = '../x' is not allowed; write a list of patterns of paths below the",
        ),
        (
            f"{HOOK}argv = ['x']\npush = []",
            "sibling.toml:4: hooks.sign.push = [] is not allowed; write a list of patterns of images, such as ",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line_and_the_cure(refused, text, sentence):
    (told,) = refused(text)
    assert told[told.index("sibling.toml:") :].startswith(sentence)
