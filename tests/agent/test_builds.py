"""A request that exists is valid: everything else is refused with a sentence that names the field."""

import pytest
from pydantic import ValidationError

from agent.builds import new_build_id
from agent.fields import parse_duration, parse_size
from agent.requests import GIT_PASSWORD, BuildRequest

GOOD = {"image": "python:3.12", "commands": ["make"]}


@pytest.mark.parametrize(
    ("text", "size"), [("512m", 512 * 1024**2), ("2g", 2 * 1024**3), ("1.5GiB", 1610612736), ("10", 10), (7, 7)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("5", 5), ("0.5s", 0.5), (3, 3)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "m", "1x", "-5s", "1m1h", "\uff11s", "1e5", "5 s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"unknown": 1}, "unknown"),
        ({"commands": None}, "commands"),
        ({"argv": ["x"]}, "argv"),
        ({"commands": []}, "commands"),
        ({"image": "-v"}, "image"),
        ({"image": "a b"}, "image"),
        ({"env": {"A-B": "1"}}, "A-B"),
        ({"env": {"A": "x\0y"}}, "NUL"),
        ({"secrets": {"A": ""}}, "empty"),
        ({"secrets": {"A": "x"}, "env": {"A": "y"}}, "env and in secrets"),
        ({"secrets": {"A": "x" * 70_000}}, "65536 bytes"),
        ({"commands": ["x" * 130_000]}, "120000 bytes"),
        ({"timeout": "never"}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"cpus": 0}, "cpus"),
        ({"memory": "1k"}, "memory"),
        ({"memory": "-1"}, "memory"),
        ({"user": "a b"}, "user"),
        ({"pull": "sometimes"}, "pull"),
        ({"source": {"type": "uploaded", "id": "../etc"}}, "source"),
        ({"source": {"type": "git", "url": "file:///etc"}}, "url"),
        ({"source": {"type": "git", "url": "ext::sh -c id"}}, "url"),
        ({"source": {"type": "git", "url": "https://u:p@h/r"}}, "own fields"),
        ({"source": {"type": "git", "url": "https://h/r", "ref": "--upload-pack=x"}}, "ref"),
        ({"concurrency": {"key": "k", "limit": 0}}, "limit"),
        ({"priority": 101}, "priority"),
    ],
)
def test_a_wrong_field_is_refused_by_name(wrong, word):
    with pytest.raises(ValidationError) as refusal:
        BuildRequest(**GOOD | wrong)
    assert word in str(refusal.value)


def test_a_secret_is_not_shown_by_repr_or_json():
    made = BuildRequest(
        **GOOD,
        secrets={"A": "hunter2"},
        source={"type": "git", "url": "https://h/r", "password": "hunter3"},
    )
    assert "hunter" not in repr(made) + made.model_dump_json()
    assert made.secret_values() == {"A": "hunter2", GIT_PASSWORD: "hunter3"}


def test_ids_sort_in_order_of_creation():
    ids = [new_build_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert all(len(each) == 26 and each.isalnum() and each == each.lower() for each in ids)
