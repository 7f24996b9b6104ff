"""A pattern covers what it says, whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.patterns import below, glob


def covers(pattern, name):
    return glob(pattern).fullmatch(name) is not None


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("team-a/**", "team-a/app", True),
        ("team-a/**", "team-a/x/app", True),
        ("team-a/**", "team-a", False),
        ("team-a/**", "team-ab/x", False),
        ("team-a/**", "x/team-a/app", False),
        ("team-a/*", "team-a/app", True),
        ("team-a/*", "team-a/x/app", False),
        ("team-a", "team-a/app", False),
        ("**", "app", True),
        ("**/app", "team/x/app", True),
        ("**/app", "app", False),
        ("*", "team/app", False),
        ("a.c", "abc", False),
        ("a[bc]", "ab", False),
        ("app+", "appp", False),
    ],
)
def test_a_pattern_covers_what_it_says_and_nothing_near_it(pattern, name, covered):
    assert covers(pattern, name) is covered


texts = st.text("ab/", max_size=5)


@given(st.text("ab/*", max_size=8), texts, texts)
def test_what_is_below_a_prefix_is_what_the_pattern_covers_with_it(pattern, prefix, rest):
    assert any(covers(each, rest) for each in below(pattern, prefix)) is covers(pattern, prefix + rest)
