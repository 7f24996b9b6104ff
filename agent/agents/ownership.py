"""Whose node it is: what a service writes at the end of its nodes' descriptions, for itself and for others. Pure.

The node's name would not do: anyone who may make nodes can choose one. The description can be changed by those alone
who may configure nodes, and the controller keeps it over its restarts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

AGENT = "agent"
REGISTRATION = "registration"
TRAINING = "training"

_MARK = re.compile(
    r"\[sibling (?P<role>agent|registration|training) of (?P<service>[0-9a-f]{32})"
    r"(?: build (?P<build>[0-9a-z]{26}))?(?: until (?P<until>[0-9]{1,12}))?\]\Z"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """A service's id, what it has the node for, and which build an agent's is.

    `until` is the end of the service's lease, in seconds since the epoch, on its registration node alone.
    """

    role: str
    service: str
    build: str | None = None
    until: int | None = None


def marked(text: str, owner: Owner) -> str:
    """A description that says `text` to people, and the owner to services."""
    build = f" build {owner.build}" if owner.build else ""
    until = f" until {owner.until}" if owner.until else ""
    return f"{text} [sibling {owner.role} of {owner.service}{build}{until}]"


def owner_of(description: str) -> Owner | None:
    """The owner that a description names; None if the node is none of any service's."""
    match = _MARK.search(description)
    if match is None:
        return None
    until = match["until"]
    return Owner(
        role=match["role"], service=match["service"], build=match["build"], until=(until and int(until)) or None
    )


def text_of(description: str) -> str:
    """What a marked description says to people."""
    return _MARK.sub("", description).rstrip()
