"""Names of a build on the engine, and as they are shown."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidRequest
from agent.gate import names

pytestmark = pytest.mark.anyio
BEFORE = names.prefix("b1")


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True), st.from_regex(names.NAME, fullmatch=True))
def test_no_name_is_below_the_prefix_of_another_build(build, name):
    if build != "b1":
        assert not (names.prefix(build) + name).startswith(BEFORE)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-a", "a b", "ä", "a" * 202, "a\n"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(InvalidRequest):
        names.check("volume", name)


def test_a_container_has_a_name_of_two_characters_at_least():
    assert names.check("network", "a") == "a"
    assert names.check("container", "ab") == "ab"
    with pytest.raises(InvalidRequest, match=r"Invalid container name \(a\), only \[a-zA-Z0-9\]"):
        names.check("container", "a")


@pytest.mark.parametrize(
    ("asked", "found", "not_found"),
    [
        ("db", ["db", "my-db-1"], ["d", "gate"]),
        ("^db$", ["db"], ["db-1", "my-db"]),
        ("^/db$", ["db"], ["my-db"]),
        ("^a|b$", ["ab", "b"], ["c"]),
        ("sibling", ["sibling-x"], ["db"]),
        ("", ["db"], []),
    ],
)
def test_a_filter_is_of_the_builds_own_names_alone(asked, found, not_found):
    (pattern,) = names.patterns([asked], BEFORE)
    assert all(re.search(pattern, BEFORE + name) for name in found)
    assert not any(re.search(pattern, BEFORE + name) for name in not_found)
    assert not re.search(pattern, "sibling-gate-b2.db")
    assert not re.search(pattern, "db")


async def test_a_stream_is_shown_without_the_prefix_wherever_it_is_cut():
    whole = f'{{"name":"/{BEFORE}db"}}\n{{"name":"{BEFORE}x"}}\n{BEFORE}end'.encode()
    for size in (1, 3, 7, 1000):

        async def pieces(size=size):
            for at in range(0, len(whole), size):
                yield whole[at : at + size]

        shown = b"".join([line async for line in names.lines(pieces(), BEFORE)])
        assert shown == b'{"name":"/db"}\n{"name":"x"}\nend'
