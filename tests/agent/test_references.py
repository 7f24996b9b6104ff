"""Image references mean to us what they mean to Docker, and a pattern never allows more than it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidRequest
from agent.references import matches, parse, registry

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12", "docker.io/library/python:3.12"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/python", "docker.io/library/python:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
        ("Registry.Example/app", "registry.example/app:latest"),
        ("registry.example:443/a/b/c:t", "registry.example:443/a/b/c:t"),
        (f"python:3.12@{DIGEST}", f"docker.io/library/python@{DIGEST}"),
        ("deadbeef", "docker.io/library/deadbeef:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("LOCALHOST/app", "localhost/app:latest"),
        ("DOCKER.IO/app", "docker.io/library/app:latest"),
        ("registry.example/app", "registry.example/app:latest"),
        ("registry.example:443/app", "registry.example:443/app:latest"),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text, full):
    assert str(parse(text)) == full


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Python",
        "python:",
        "python:ä",
        "a//b",
        "/a",
        "a/",
        "a b",
        "python@sha256:abc",
        "python@md5:" + "a" * 32,
        "../etc/passwd",
        "a/../b",
        "a" * 64,
        DIGEST,
        "registry.example/" + "a" * 300,
        "python:" + "a" * 129,
        "registry.example:notaport/app",
        "-registry.example/app",
        "a\n",
        "Team/app",  # to Docker a host called Team; written in full it would be one of docker.io's
        "[abc]/app",
        "registry.example./app",
        "registry.example:\u0665/app",
    ],
)
def test_what_is_no_reference_is_refused_with_a_sentence(text):
    with pytest.raises(InvalidRequest, match="image"):
        parse(text)


@pytest.mark.parametrize(
    ("image", "pattern", "allowed"),
    [
        ("python:3.12", "**", True),
        ("python:3.12", "python", True),
        ("python:3.12", "python:*", True),
        ("python:3.12", "docker.io/library/python:3.*", True),
        ("python:2.7", "python:3.*", False),
        ("pythonx", "python", False),
        ("team/python", "python", False),
        ("evil.example/library/python", "python", False),
        ("team-a/app", "team-a/*", True),
        ("team-ab/app", "team-a/*", False),
        ("team-a/x/app", "team-a/*", False),
        ("team-a/x/app", "team-a/**", True),
        ("registry.example/team/app", "registry.example/**", True),
        ("registry.example:5000/team/app", "registry.example/**", False),
        ("registry.example.evil/team/app", "registry.example/**", False),
        ("REGISTRY.example/team/app", "registry.example/**", True),
        ("python:3.12", "python.*", False),
        (f"python@{DIGEST}", "python:3.12", False),
        (f"python@{DIGEST}", "python", True),
        ("quay.io/team/app", "**/team/*", True),
        ("registry.example/team/app", "Registry.Example/team/*", True),
        ("team-x.evil.example/app", "team-*/app", False),
        ("team-x/app", "team-*/app", True),
        ("quay.io/app", "*/app", True),
        ("registry.example:443/app", "registry.example/app", False),
    ],
)
def test_a_pattern_allows_what_it_says_and_nothing_near_it(image, pattern, allowed):
    assert matches(parse(image), pattern) is allowed


@given(st.text("aB:/@.-_*[]1\n", max_size=20) | st.text(max_size=20))
def test_what_is_full_stays_the_same_when_it_is_read_again(text):
    try:
        reference = parse(text)
    except InvalidRequest:
        return
    assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("Registry.Example:5000", "registry.example:5000"),
        ("localhost", "localhost"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_a_registry_is_called_what_references_call_it(text, name):
    assert registry(text) == name


@pytest.mark.parametrize(
    "text", ["", "library", "python", "a/b", "docker.io/x", "https://a.b", "a.b/", "a.b ", "*", "a:b"]
)
def test_what_is_no_registry_is_refused(text):
    with pytest.raises(InvalidRequest, match="is not a registry"):
        registry(text)
