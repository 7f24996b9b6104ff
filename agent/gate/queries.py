"""The query of a request: only keys that are known go on, and each once (see `exchange`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.errors import InvalidRequest
from agent.gate import strict_json
from agent.gate.exchange import AGAIN
from agent.gate.own import LABEL
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from agent.gate.exchange import Exchange


_MANY = {"names", "t", "extrahosts", "changes"}
_MOST_VALUES = 50  # of a filter
_NUMBER = re.compile(r"|-?[0-9]{1,18}")


def only(exchange: Exchange, *names: str) -> dict[str, str]:
    """Of the query these keys; others, and empty values, are as if they were not there (clients send what is old).

    Raises InvalidRequest for one that is there twice, if not everyone may be; see `several`.
    """
    found = {name: value for name, value in exchange.request.query.items() if value and name in names}
    for name, value in found.items():
        if AGAIN in value and name not in _MANY:
            raise InvalidRequest(f"the query has {name!r} twice, or a NUL in it")
    return found


def several(query: Mapping[str, str]) -> list[tuple[str, str]]:
    """The query as pairs, several of those keys that are there several times."""
    return [(name, each) for name, value in query.items() for each in value.split(AGAIN)]


def number(name: str, text: str) -> int:
    """What a key of the query says, 0 if nothing. Raises InvalidRequest."""
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest(f"{name} {text[:200]!r} is no number")
    return int(text or 0)


def filters(text: str, known: Collection[str]) -> dict[str, list[str]]:
    """Filters as lists, from lists or from maps of what is true, as clients send. Raises InvalidRequest, Refused."""
    try:
        values = strict_json.parse((text or "{}").encode())
    except InvalidRequest as error:
        raise InvalidRequest(f"filters {text[:200]!r}: {error}") from error
    if not isinstance(values, dict):
        raise InvalidRequest(f"filters {text[:200]!r} are not understood")
    if unknown := sorted(set(values) - set(known)):
        raise Refused("query", f"the filter {unknown[0]!r} is not among those that are taken here")
    return {name: _texts(name, value) for name, value in values.items()}


def of_build(build: str, asked: Mapping[str, list[str]]) -> dict[str, str]:
    """The query that asks the engine for these filters among what has the build's label."""
    whole = {**asked, "label": [*asked.get("label", []), f"{LABEL}={build}"]}
    return {"filters": strict_json.emit(whole).decode()}


def containers_with(kind: str, name: str) -> dict[str, str]:
    """The query that asks for containers by one filter, such as those with a volume, running or not."""
    return {"all": "1", "filters": strict_json.emit({kind: [name]}).decode()}


def _texts(name: str, value: object) -> list[str]:
    if isinstance(value, dict):
        value = [each for each, on in value.items() if on is True]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidRequest(f"the filter {name!r} is not understood")
    if len(value) > _MOST_VALUES:
        raise InvalidRequest(f"the filter {name!r} has more than {_MOST_VALUES} values")
    return value
