"""A node's description says to services whose it is, whatever it says to people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.agents.ownership import AGENT, REGISTRATION, Owner, marked, owner_of, text_of
from tests.agent.agents.steps import ID, US

OWNERS = [
    Owner(role=AGENT, service=US, build=f"{ID}1"),
    Owner(role=REGISTRATION, service=US, until=1800000000),
    Owner(role=AGENT, service=US),
]


@pytest.mark.parametrize("owner", OWNERS)
@given(text=st.text())
def test_what_was_marked_is_read_back(owner, text):
    description = marked(text, owner)
    assert owner_of(description) == owner
    assert text_of(description) == text.rstrip()


@pytest.mark.parametrize(
    "description",
    [
        "",
        "an agent of ours",
        f"[sibling agent of {US[:-1]}]",
        f"[sibling agent of {US}] and more",
        f"[sibling king of {US}]",
        f"[sibling agent of {US} build {ID}]",  # an id of 25 characters
    ],
)
def test_other_nodes_are_nobodys(description):
    assert owner_of(description) is None
