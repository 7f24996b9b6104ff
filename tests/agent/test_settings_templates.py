"""Templates inherit from each other; one that makes no sense is refused with its line."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.requests import BuildRequest
from agent.settings import Settings, TemplateSettings
from agent.settings.templates import Template, resolve

SIZE = "write a size above 0 up to 8192t, such as `512m`."
KEY = "has a name that is not allowed;"
NAMES = "write up to 63 lower-case letters, digits or `-`, the first a letter or digit."
IMAGE = "write an image, such as `python:3.12` or `registry.example/team/app:1.0`."
CACHES = (
    "write a table of names (up to 63 lower-case letters, digits, `.`, `_` or `-`, the first a letter or digit) and "
    "absolute paths outside of `/workspace`, `/opt/sibling`, `/tmp`, `/proc`, `/sys`, `/dev`, such as "
    '`{ apt = "/var/cache/apt/archives" }`.'
)
VARIABLES = 'write a table of variables (letters, digits or `_`, no digit first), such as `{ LANG = "C.UTF-8" }`.'
LABELS = "write a list of labels, each up to 256 characters without spaces, quotes and any of `&|!()<>`."


# --- what a template comes to


def test_there_are_none_at_first():
    assert Settings().templates == {}
    assert Settings().resolved_templates() == {}


def test_a_template_with_nothing_but_an_image(load):
    settings = load("[templates.linux-small]\nimage = 'debian:13'")
    assert settings.templates == {"linux-small": TemplateSettings(image="debian:13")}
    assert settings.resolved_templates() == {
        "linux-small": Template(
            name="linux-small",
            labels=("linux-small",),
            image="debian:13",
            user=None,
            cpus=None,
            memory=None,
            pids=None,
            shm_size=None,
            timeout=None,
            env={},
            caches={},
            heap=None,
            pull="missing",
            docker="none",
            min_idle=0,
            cap=None,
        )
    }


PARENT = """
[templates.base]
image = "debian:13"
labels = ["base", "linux", "base"]
user = "1000:1000"
cpus = 1.5
memory = "1g"
pids = 100
shm_size = "1m"
timeout = "10m"
heap = "64m"
pull = "always"
min_idle = 1
cap = 2
env = { A = "1", B = "1" }
caches = { maven = "/home/build/.m2", npm = "/home/build/.npm" }
"""


def test_a_child_has_all_of_its_parent_but_labels_and_numbers_of_agents(load):
    templates = load(f"{PARENT}[templates.child]\ninherits = 'base'").resolved_templates()
    base, child = templates["base"], templates["child"]
    assert (base.labels, base.min_idle, base.cap) == (("base", "linux"), 1, 2)
    assert (base.memory, base.timeout, base.heap) == (1024**3, 600, 64 * 1024**2)
    assert child == dataclasses.replace(base, name="child", labels=("child",), min_idle=0, cap=None)


def test_what_a_child_gives_wins_and_tables_are_merged(load):
    templates = load(
        f"{PARENT}[templates.child]\ninherits = 'base'\nimage = 'alpine'\npull = 'missing'\nlabels = []\n"
        "env = { B = '2', C = '2' }\ncaches = { npm = '/n' }\n[templates.grandchild]\ninherits = 'child'\ncpus = 9\n"
    ).resolved_templates()
    child, grandchild = templates["child"], templates["grandchild"]
    assert (child.image, child.pull, child.labels, child.cpus) == ("alpine", "missing", (), 1.5)
    assert child.env == {"A": "1", "B": "2", "C": "2"}
    assert child.caches == {"maven": "/home/build/.m2", "npm": "/n"}
    assert grandchild == dataclasses.replace(child, name="grandchild", labels=("grandchild",), cpus=9)
    assert templates["base"].env == {"A": "1", "B": "1"}


def test_a_parent_without_an_image_has_no_agents(load):
    templates = load("[templates.limits]\ncpus = 1\n[templates.a]\ninherits = 'limits'\nimage = 'x'\n")
    assert [*templates.resolved_templates()] == ["a"]


def test_templates_are_in_the_order_of_their_names(load):
    text = "".join(f"[templates.{name}]\nimage = 'x'\nlabels = ['same']\n" for name in ("b", "a", "0", "a-b"))
    assert [*load(text).resolved_templates()] == ["0", "a", "a-b", "b"]


@given(st.lists(st.sampled_from([None, *"0123"]), min_size=4, max_size=4))
def test_inheritance_ends_or_is_refused(parents):
    templates = {
        str(number): TemplateSettings(image="x", **({"inherits": parent} if parent else {}))
        for number, parent in enumerate(parents)
    }
    endless = set(templates)
    for _ in parents:
        endless = {name for name in endless if templates[name].inherits in endless}
    if endless:
        with pytest.raises(ValueError, match="no template can inherit from itself"):
            resolve(templates)
    else:
        assert [*resolve(templates)] == [*templates]


@pytest.mark.parametrize("name", ["timeout", "cpus", "memory", "pids", "shm_size", "pull", "env"])
def test_the_bounds_are_those_of_a_build(name):
    def schema(model):
        whole = model.model_json_schema()["properties"][name]
        told = dict.fromkeys(("title", "description", "default", "allowed"))
        return [kind | told for kind in whole.get("anyOf", [whole]) if kind != {"type": "null"}]

    assert schema(TemplateSettings) == schema(BuildRequest)


@pytest.mark.parametrize("user", ["root", "1000:1000", "a.b-c", "", "-a", "a b", "a:", ":a", "a" * 129])
def test_a_user_is_what_it_is_for_a_build(user):
    def is_allowed(model, **others):
        try:
            return model(user=user, **others) is not None
        except ValidationError:
            return False

    assert is_allowed(TemplateSettings) == is_allowed(BuildRequest, image="x", argv=["x"])


# --- what is refused


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            "image = 'Debian'",
            f"3: templates.a.image = 'Debian' is not allowed; {IMAGE}",
        ),
        ("image = 'x'\ncpu = 1", "4: there is no setting templates.a.cpu; did you mean templates.a.cpus?"),
        ("image = 'x'\nshm_size = 0", f"4: templates.a.shm_size = 0 is not allowed; {SIZE}"),
        (
            "image = 'x'\ndocker = 'isolated'",
            "4: templates.a.docker = 'isolated' needs an image for daemons; give daemon.image, or take 'scoped'.",
        ),
        (
            "docker = 'all'",
            "3: templates.a.docker = 'all' is not allowed; write `none` or `scoped` or `isolated` or `host`.",
        ),
        ("min_idle = true", "3: templates.a.min_idle = True is not allowed; write a whole number of at least 0."),
        ("cap = 0", "3: templates.a.cap = 0 is not allowed; write a whole number of at least 1."),
        ("labels = 'b'", f"3: templates.a.labels = 'b' is not allowed; {LABELS}"),
        ("labels = ['b', '']", f"3: templates.a.labels = '' is not allowed; {LABELS}"),
        ("env = { A = 1 }", f"3: templates.a.env.A = 1 is not allowed; {VARIABLES}"),
        ("[templates.a.env]\n1A = 'x'", f"4: templates.a.env.1A {KEY} {VARIABLES}"),
        ("[templates.a.caches]\n\nm = 'm2'", f"5: templates.a.caches.m = 'm2' is not allowed; {CACHES}"),
        ("caches.M = '/m'", f"3: templates.a.caches.M {KEY} {CACHES}"),
        ("inherits = 'b'", "3: templates.a.inherits = 'b' is no template; there are a."),
        ("", "1: templates.a has no image of its own or inherited; give templates.a.image."),
        (
            "image = 'x'\ncap = 1\nmin_idle = 2",
            "5: templates.a.min_idle, 2, is above templates.a.cap, 1; lower the first or raise the second.",
        ),
        (
            "image = 'x'\ncaches = { m = '/m', n = '/m' }",
            "4: templates.a.caches has m and n at /m; one path takes one cache.",
        ),
    ],
)
def test_a_wrong_template_is_refused_with_its_line(refused, lines, told):
    assert refused(f"[templates.a]\n\n{lines}") == [f"sibling.toml:{told}"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[templates.Linux]\nimage = 'x'", f"1: templates.Linux {KEY} {NAMES}"),
        ("[templates]\n'a.b' = { image = 'x' }", f"2: templates.a.b {KEY} {NAMES}"),
        (
            "[templates]\nimage = 'x'",
            "2: templates.image is a section; give its settings one by one, such as templates.NAME.image.",
        ),
        ("templates = 3", "1: templates is a section; give its settings one by one, such as templates.NAME.image."),
        ("[template.a]\nimage = 'x'", "1: there is no setting template; did you mean templates?"),
        (
            "[templates.a]\ninherits = 'b'\n[templates.b]\ninherits = 'c'\n[templates.c]\n\ninherits = 'b'",
            "7: no template can inherit from itself: b -> c -> b; take out one of these `inherits`.",
        ),
        (
            "[templates.a]\ninherits = 'a'",
            "2: no template can inherit from itself: a -> a; take out one of these `inherits`.",
        ),
        (
            "[templates.b]\n[templates.a]\ninherits = 'b'",
            "2: templates.a has no image of its own or inherited; give templates.a.image.",
        ),
        (
            "[templates.b]\nimage = 'x'\ncaches.m = '/m'\n[templates.a]\ninherits = 'b'\ncaches.n = '/m'",
            "6: templates.a.caches has m and n at /m; one path takes one cache.",
        ),
    ],
)
def test_templates_that_make_no_sense_are_refused_with_the_line(refused, text, told):
    assert refused(text) == [f"sibling.toml:{told}"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//m",
        "/m/",
        "/m/../tmp",
        "/./m",
        "m",
        "",
        "/tmp",
        "/tmp/m",
        "/workspace/m",
        "/opt/sibling",
        "/proc/1",
        "/dev",
    ],
)
def test_a_cache_must_not_be_where_others_are(refused, path):
    (told,) = refused(f"[templates.a]\nimage = 'x'\ncaches.m = '{path}'")
    assert told == f"sibling.toml:3: templates.a.caches.m = {path!r} is not allowed; {CACHES}"


@pytest.mark.parametrize("path", ["/m", "/opt/sibling-cache", "/tmpfs", "/opt", "/home/build/.m2/repository"])
def test_a_cache_may_be_anywhere_else(load, path):
    assert load(f"[templates.a]\nimage = 'x'\ncaches.m = '{path}'").resolved_templates()["a"].caches == {"m": path}


@pytest.mark.parametrize("label", ["a b", "a\tb", '"a"', "it's", "a&b", "a|b", "!a", "(a)", "a->b", "a<b", "\x7f"])
def test_a_label_is_one_atom_of_an_expression(label):
    with pytest.raises(ValueError, match="labels"):
        TemplateSettings(labels=[label])


def test_a_variable_or_secret_file_cannot_give_a_template(refused, monkeypatch, tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "templates__b__user").write_text("x")
    monkeypatch.setenv("SIBLING_SECRETS_DIR", str(folder))
    monkeypatch.setenv("SIBLING_TEMPLATES__LINUX__IMAGE", "x")
    monkeypatch.setenv("SIBLING_TEMPLATES__LINUX__CPUS", "many")
    assert refused("templates.a = 3") == [
        f"{folder}/templates__b__user: templates are given in the settings file alone.",
        "SIBLING_TEMPLATES__LINUX__CPUS: templates are given in the settings file alone.",
        "SIBLING_TEMPLATES__LINUX__IMAGE: templates are given in the settings file alone.",
        "sibling.toml:1: templates.a is a section; give its settings one by one, such as templates.NAME.image.",
    ]


def test_a_variable_cannot_give_them_all_and_is_not_told_to_give_one(refused, monkeypatch):
    monkeypatch.setenv("SIBLING_TEMPLATES", "{}")
    monkeypatch.setenv("SIBLING_LOG__CACHES", "1")
    templates, caches = sorted(refused(""), reverse=True)
    assert templates == "SIBLING_TEMPLATES: templates are given in the settings file alone."
    assert caches.startswith("SIBLING_LOG__CACHES: there is no setting log.caches; docs/settings.md has all; ")
