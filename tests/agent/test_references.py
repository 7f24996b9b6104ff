"""Image references mean to us what they mean to Docker, and a pattern never allows more than it says."""

import pytest

from agent.errors import InvalidRequest
from agent.references import matches, parse

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
    ],
)
def test_a_pattern_allows_what_it_says_and_nothing_near_it(image, pattern, allowed):
    assert matches(parse(image), pattern) is allowed
