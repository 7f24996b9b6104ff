"""A Dockerfile uses no image that no pattern allows, whatever way it asks; BuildKit itself sees to that."""

import hashlib
import json
import os
import re
import shutil
import subprocess

import docker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bases import refusal, source_policy
from agent.references import matches, parse
from tests.conftest import BUSYBOX
from tests.fakes.registry import Registry

DIGEST = "sha256:" + "a" * 64
IMAGE = "docker-image://"
SMALL, OTHER = f"docker.io/{BUSYBOX}", "docker.io/sibling-test/static:1"


def policy(*allowed, own=(), mirrors=None, allow_remote_add=True, aliases=None):
    return source_policy(allowed, own=own, mirrors=mirrors or {}, allow_remote_add=allow_remote_add, aliases=aliases)


# --- what BuildKit makes of the rules, as its `sourcepolicy/engine.go` does


def met(rule, source, attributes):
    selector = rule["selector"]
    constraints = selector.get("constraints", [])
    return re.search(selector["identifier"], source) and all(
        (attributes.get(each["key"], "") == each.get("value", "")) is (each.get("condition", "EQUAL") == "EQUAL")
        for each in constraints
    )


def verdict(rules, source, attributes):
    """The source that is used at last, or None if it is denied."""
    allowed = True
    for rule in rules["rules"]:
        if not met(rule, source, attributes):
            continue
        if rule["action"] == "CONVERT":
            converted = re.sub(
                rule["selector"]["identifier"], rule["updates"]["identifier"].replace("${1}", r"\1"), source
            )
            if converted != source:
                return verdict(rules, converted, attributes)
        else:
            allowed = rule["action"] == "ALLOW"
    return source if allowed else None


def named(rules, source):
    """As the Dockerfile names it."""
    return verdict(rules, source, {})


def fetched(rules, source):
    """As it is fetched, with the digest that the registry told."""
    return verdict(rules, source, {"image.resolvemode": "local"})


@pytest.mark.parametrize(
    ("pattern", "source", "allowed"),
    [
        ("**", "docker.io/library/python:3.12", True),
        ("**", "registry.example:5000/a/b/c:1", True),
        ("**", f"docker.io/library/python@{DIGEST}", True),
        ("python", "docker.io/library/python:3.12", True),
        ("python", f"docker.io/library/python:3.12@{DIGEST}", True),
        ("python", "docker.io/library/pythonx:3.12", False),
        ("python", "evil.example/library/python:3.12", False),
        ("python", "docker.io/library/python.evil:3.12", False),
        ("python", "docker.io/library/python/x:3.12", False),
        ("python:3.*", "docker.io/library/python:3.12", True),
        ("python:3.*", "docker.io/library/python:2.7", False),
        ("python:3.*", "docker.io/library/python:2.7-3.12", False),
        ("python:3.*", f"docker.io/library/python:3.12@{DIGEST}", False),
        ("python:3.*", f"docker.io/library/python@{DIGEST}", False),
        ("registry.example/team-a/**", "registry.example/team-a/x/y:1", True),
        ("registry.example/team-a/**", "Registry.Example/team-a/x:1", True),
        ("registry.example/team-a/**", "registry.example/team-ab/x:1", False),
        ("registry.example/team-a/**", "registry.example:5000/team-a/x:1", False),
        ("registry.example/team-a/**", "registryxexample/team-a/x:1", False),
        ("registry.example/*x", "registry.example/foo:1x", False),
        ("registry.example/*x", f"registry.example/foo:1x@{DIGEST}", False),
        ("*/x:1", "registry.example:5000/x:1", True),
        ("**/team/*", "quay.io/team/app:1", True),
        ("**/team/*", "quay.io/team/app/x:1", False),
        ("python:A*", "docker.io/library/python:Abc", True),
        ("python:A*", "docker.io/library/python:abc", False),
        ("**/Team/*", "quay.io/team/app:1", False),
    ],
)
def test_a_base_is_allowed_as_the_pattern_says(pattern, source, allowed):
    assert (named(policy(pattern), IMAGE + source) is not None) is allowed


def test_the_digest_that_the_registry_tells_does_not_matter_to_a_pattern_with_a_tag():
    source = f"{IMAGE}docker.io/library/python:3.12@{DIGEST}"
    assert fetched(policy("python:3.*"), source) == source
    assert fetched(policy("python:2.*"), source) is None


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("docker.io/docker/dockerfile:1", True),
        (f"docker.io/docker/dockerfile:1.7-labs@{DIGEST}", True),
        ("docker.io/docker/dockerfile-upstream:master", True),
        ("docker.io/docker/dockerfile-evil:1", False),
        ("docker.io/evil/dockerfile:1", False),
        ("evil.example/docker/dockerfile:1", False),
        ("sibling.local/b1:latest", False),
    ],
)
def test_only_docker_s_own_frontends_are_run_whatever_bases_are_allowed(source, allowed):
    rules = policy("**", own=["sibling.local/b1:latest"])
    assert (verdict(rules, IMAGE + source, {"image.recordtype": "frontend"}) is not None) is allowed


def test_a_frontend_comes_from_the_mirror():
    rules = policy("**", mirrors={"docker.io": "mirror.example/hub"})
    used = verdict(rules, f"{IMAGE}docker.io/docker/dockerfile:1", {"image.recordtype": "frontend"})
    assert used == f"{IMAGE}mirror.example/hub/docker/dockerfile:1"


def test_a_frontend_must_be_an_allowed_base_as_well():
    assert named(policy("python"), f"{IMAGE}docker.io/docker/dockerfile:1") is None


def test_no_two_rules_with_one_identifier_have_different_constraints():
    rules = policy("python:3.*", "node:*", "**", own=["sibling.local/b1:latest"])["rules"]
    identifiers = [rule["selector"]["identifier"] for rule in rules]
    assert len(identifiers) == len(set(identifiers))


parts = st.sampled_from(["a", "ab", "team", "team-a", "library", "python", "x"])
hosts = st.sampled_from(["docker.io", "index.docker.io", "a.b", "A.b", "a.b:50", "localhost", "[::1]:5", "xa.b"])
images = st.builds(
    lambda host, path, tag, digest: "/".join([*host, *path]) + tag + digest,
    st.lists(hosts, max_size=1),
    st.lists(parts, min_size=1, max_size=4),
    st.sampled_from(["", ":1", ":1.0", ":Ab", ":x"]),
    st.sampled_from(["", "", f"@{DIGEST}"]),
)
pieces = st.sampled_from(["*", "**", "a", "b", "team", "-", "/", ".", ":", "1", "x", "50", "docker.io/", "a.b/"])
patterns = st.lists(pieces, min_size=1, max_size=7).map("".join) | images.map(lambda image: image.partition("@")[0])


def as_buildkit_names(image):
    """With its domain and a tag, but with the case that it was written in."""
    rest, at, digest = image.partition("@")
    whole = parse(rest)
    name = whole.name
    if image.lower().startswith(whole.domain + "/"):
        name = image[: len(whole.domain)] + name[len(whole.domain) :]
    tagged = ":" in rest.rpartition("/")[2]
    return f"{IMAGE}{name}" + (f":{whole.tag}" if tagged or not at else "") + at + digest


@given(images, patterns)
def test_what_the_rules_allow_is_what_the_pattern_covers(image, pattern):
    assert (named(policy(pattern), as_buildkit_names(image)) is not None) is matches(parse(image), pattern)


@given(images, patterns)
def test_what_was_allowed_by_its_tag_is_so_with_its_digest_and_nothing_else_is(image, pattern):
    plain = image.partition("@")[0]
    source = as_buildkit_names(plain)
    assert (fetched(policy(pattern), f"{source}@{DIGEST}") is not None) is matches(parse(plain), pattern)


@given(images, patterns)
def test_a_mirror_is_asked_for_just_what_the_pattern_covers(image, pattern):
    reference = parse(image)
    source = as_buildkit_names(image)
    used = named(policy(pattern, mirrors={reference.domain: "mirror.example:5/hub"}), source)
    path = source.removeprefix(IMAGE).partition("/")[2]
    asked = f"mirror.example:5/hub/{path}"
    covered = matches(reference, pattern) or matches(parse(asked), pattern)
    assert used == (f"{IMAGE}{asked}" if covered else None)


def test_images_of_builds_are_for_those_who_own_them():
    rules = policy("**", "sibling.local/**", own=["sibling.local/b1:latest"])
    assert named(rules, f"{IMAGE}sibling.local/b1:latest")
    assert fetched(rules, f"{IMAGE}sibling.local/b1:latest@{DIGEST}")
    for other in ("b2:latest", "b1:other", "b1x:latest", f"b1:latest@{DIGEST}", f"b1@{DIGEST}", "x/b1:latest"):
        assert named(rules, f"{IMAGE}sibling.local/{other}") is None
    assert named(rules, f"{IMAGE}SIBLING.local/b2:latest") is None


def test_an_alias_stands_for_an_own_image_and_goes_before_a_mirror():
    own = "sibling.local/b1:latest"
    rules = policy(own=[own], aliases={"docker.io/library/app:1": own}, mirrors={"docker.io": "mirror.example"})
    assert named(rules, f"{IMAGE}docker.io/library/app:1") == IMAGE + own
    for other in ("app:2", "app:1-x", "app", "xapp:1", f"app:1@{DIGEST}"):
        assert named(rules, f"{IMAGE}docker.io/library/{other}") is None
    assert verdict(rules, f"{IMAGE}docker.io/library/app:1", {"image.recordtype": "frontend"}) is None


def test_without_patterns_only_own_images_are_left():
    rules = policy(own=["sibling.local/b1:latest"])
    assert named(rules, f"{IMAGE}sibling.local/b1:latest")
    assert named(rules, f"{IMAGE}docker.io/library/python:3.12") is None


@pytest.mark.parametrize("source", ["http://h/x", "https://h/x", "git://h/x.git#main"])
def test_what_add_fetches_is_allowed_by_the_setting_alone(source):
    assert named(policy(allow_remote_add=True), source)
    assert named(policy("**", allow_remote_add=False), source) is None


@pytest.mark.parametrize("source", ["oci-layout://x", "docker-image+blob://docker.io/library/x:1", "new://x", "x\n"])
def test_kinds_of_source_that_nobody_thought_of_are_denied(source):
    assert named(policy("**"), source) is None


def test_the_context_is_allowed():
    assert named(policy(), "local://context")


def test_other_errors_are_no_refusal():
    assert refusal("failed to solve: python:3: not found", ["**"]) is None
    said = 'process "/bin/sh -c echo source "docker-image://x" denied by policy: source denied by policy"'
    assert refusal(f"failed to solve: {said} did not complete successfully: exit code: 1", []) is None


# --- on the engine


@pytest.fixture
def build(docker_host, tmp_path):
    """Builds a Dockerfile under a policy; returns buildx's last word, which is empty if it succeeded."""

    def built(dockerfile, rules, *options):
        (tmp_path / "policy.json").write_text(json.dumps(rules))
        environment = os.environ | {"EXPERIMENTAL_BUILDKIT_SOURCE_POLICY": str(tmp_path / "policy.json")}
        done = subprocess.run(
            [
                *(shutil.which("docker"), "buildx", "build", "--builder=default", "--progress=plain"),
                *("--no-cache", "--output=type=cacheonly", *options, "-f-", tmp_path / "context"),
            ],
            input=dockerfile,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return ""
        return done.stderr.strip().splitlines()[-1].removeprefix("ERROR: ")

    (tmp_path / "context").mkdir()
    return built


@pytest.fixture
def onbuild(docker_host, build):
    """An image that uses another one in whatever is built on it."""
    name = "sibling-test/onbuild:1"
    client = shutil.which("docker")
    subprocess.run(
        [client, "buildx", "build", "--builder=default", "-q", "-t", name, "-"],
        input=f"FROM {BUSYBOX}\nONBUILD COPY --from={OTHER} /bin/echo /other\n",
        capture_output=True,
        text=True,
        check=True,
    )
    yield name
    subprocess.run([client, "image", "rm", name], capture_output=True, check=True)


WAYS = {
    "from": (f"FROM {OTHER}\nCOPY . /x\n", ()),
    "a stage of several": (f"FROM {BUSYBOX} AS a\nFROM {OTHER} AS b\nFROM a\nCOPY --from=b /bin/echo /x\n", ()),
    "copy": (f"FROM {BUSYBOX}\nCOPY --from={OTHER} /bin/echo /other\n", ()),
    "mount": (f"FROM {BUSYBOX}\nRUN --mount=from={OTHER},target=/other true\n", ()),
    "argument": ("ARG NAME\nFROM sibling-test/$NAME:1\nCOPY . /x\n", ("--build-arg=NAME=static",)),
    "frontend": (f"# syntax={OTHER}\nFROM {BUSYBOX}\n", ()),
    "frontend as an argument": (f"FROM {BUSYBOX}\n", (f"--build-arg=BUILDKIT_SYNTAX={OTHER}",)),
    "named context": ("FROM named\nCOPY . /x\n", (f"--build-context=named={IMAGE}{OTHER}",)),
    "named context in place of an image": (
        f"FROM {BUSYBOX}\nCOPY . /x\n",
        (f"--build-context={BUSYBOX}={IMAGE}{OTHER}",),
    ),
    "platform": (f"FROM --platform=linux/arm64 {OTHER}\nCOPY . /x\n", ()),
    "case of the domain": ("FROM index.docker.io/sibling-test/static:1\nCOPY . /x\n", ()),
}


@pytest.mark.engine
@pytest.mark.parametrize(("dockerfile", "options"), WAYS.values(), ids=WAYS)
def test_no_way_leads_to_an_image_that_is_not_allowed(build, dockerfile, options):
    refused = refusal(build(dockerfile, policy("sibling-test/busybox:*"), *options), ["sibling-test/busybox:*"])
    assert refused.rule == "images.allowed_bases"
    assert str(refused) == f"image {OTHER} is not allowed in a Dockerfile here; allowed: sibling-test/busybox:*"


@pytest.mark.engine
@pytest.mark.parametrize("way", ["from", "a stage of several", "copy", "mount", "argument", "named context"])
def test_each_way_leads_to_one_that_is(build, way):
    dockerfile, options = WAYS[way]
    assert build(dockerfile, policy("sibling-test/*:1"), *options) == ""


@pytest.fixture
def frontend(docker_host):
    """An image that could be one of Docker's, and only fails."""
    name = "docker/dockerfile:sibling-test"
    with docker.APIClient(base_url=docker_host, version="1.45") as engine:
        engine.tag(BUSYBOX, *name.split(":"))
        yield name
        engine.remove_image(name)


@pytest.mark.engine
def test_no_image_reads_a_dockerfile_but_docker_s_own(build, frontend):
    refused = refusal(build(f"# syntax={OTHER}\nFROM {BUSYBOX}\n", policy("**")), ["**"])
    assert refused.rule == "images.allowed_bases"
    assert str(refused).startswith(f"image {OTHER} cannot be the syntax of a Dockerfile here")
    said = build(f"# syntax={frontend}\nFROM {BUSYBOX}\n", policy("**"))
    assert said  # it was run, and is none
    assert refusal(said, ["**"]) is None


@pytest.mark.engine
def test_an_alias_is_a_base_everywhere_and_never_a_frontend(build):
    name = "registry.invalid/team/app:1"
    rules = policy(BUSYBOX, own=[OTHER], aliases={name: OTHER})
    for dockerfile in (
        f"FROM {name}\nCOPY . /x\n",
        f"FROM {BUSYBOX}\nCOPY --from={name} /bin/echo /other\n",
        f"FROM {BUSYBOX}\nRUN --mount=from={name},target=/other test -x /other/bin/echo\n",
    ):
        assert build(dockerfile, rules) == ""
    said = build(f"# syntax={name}\nFROM {BUSYBOX}\n", rules)
    assert str(refusal(said, [])).startswith(f"image {OTHER} cannot be the syntax")


@pytest.mark.engine
def test_what_a_base_image_asks_for_leads_nowhere_else_either(build, onbuild):
    # BuildKit 0.13 takes no image in ONBUILD at all; later ones hold it against the policy.
    assert build(f"FROM {onbuild}\n", policy("sibling-test/onbuild", BUSYBOX))
    assert refusal(build(f"FROM {onbuild}\n", policy(BUSYBOX)), []).rule == "images.allowed_bases"


@pytest.mark.engine
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "https://127.0.0.1:9/x.git", "git://127.0.0.1:9/x.git"])
def test_add_fetches_nothing_unless_the_setting_says_so(build, url):
    dockerfile = f"FROM {BUSYBOX}\nADD {url} /x\n"
    assert refusal(build(dockerfile, policy("**", allow_remote_add=False)), []).rule == "images.allow_remote_add"
    tried = build(dockerfile, policy("**", allow_remote_add=True))
    assert tried  # nobody answers there
    assert refusal(tried, []) is None


@pytest.mark.engine
def test_an_image_of_a_registry_is_allowed_by_its_tag_and_not_by_a_digest_that_the_dockerfile_tells(build):
    with Registry(b"bases") as registry:
        name, _, tag = registry.reference.rpartition(":")
        digest = f"sha256:{hashlib.sha256(registry.blobs['1']).hexdigest()}"
        rules = policy(f"{name}:*")
        assert build(f"FROM {name}:{tag}\nCOPY . /x\n", rules) == ""
        assert build(f"FROM {BUSYBOX}\nCOPY --from={name}:{tag} /made-by /\n", policy(f"{name}:*", BUSYBOX)) == ""
        for written in (f"{name}:{tag}@{digest}", f"{name}@{digest}"):
            assert refusal(build(f"FROM {written}\nCOPY . /x\n", rules), []).rule == "images.allowed_bases"
            assert build(f"FROM {written}\nCOPY . /x\n", policy(name)) == ""


@pytest.mark.engine
def test_a_mirror_is_asked_in_the_place_of_a_registry(build):
    with Registry(b"mirror") as registry:
        host = registry.reference.partition("/")[0]
        dockerfile = "FROM registry.invalid/sibling-test/pulled:1\nCOPY . /x\n"
        mirrors = {"registry.invalid": host}
        assert build(dockerfile, policy("registry.invalid/sibling-test/*:1", mirrors=mirrors)) == ""
        refused = refusal(build(dockerfile, policy("registry.invalid/other/**", mirrors=mirrors)), [])
        assert refused.rule == "images.allowed_bases"


@pytest.mark.engine
@pytest.mark.parametrize("option", ["", "--network=host", "--security=insecure"])
def test_no_step_gets_more_than_steps_get(build, option):
    said = build(f"FROM {BUSYBOX}\nRUN {option} true\n", policy("**"))
    assert (
        said
        == {
            "": "",
            "--network=host": "failed to solve: failed to load LLB: network.host is not allowed",
            "--security=insecure": "failed to solve: dockerfile parse error on line 2: unknown flag: security",
        }[option]
    )
