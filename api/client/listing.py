"""Lists of the service, page by page, and what programs get of them."""

from __future__ import annotations

import json
from urllib.parse import urlencode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from api.client.connection import Connection

_LARGEST_PAGE = 100


def listed(
    connection: Connection, kind: str, query: Sequence[tuple[str, str]], limit: int
) -> Iterator[Mapping[str, Any]]:
    """At most `limit` of the `builds` or `images` that the query asks for, the newest first. Raises ClientError."""
    cursor: str | None = ""
    while cursor is not None and limit > 0:
        size = min(limit, _LARGEST_PAGE)
        page = [("limit", str(size)), *([("cursor", cursor)] if cursor else [])]
        answer = connection.json("GET", f"/v1/{kind}?{urlencode([*query, *page])}")
        yield from answer[kind][:size]
        limit -= size
        cursor = answer["next"]


def json_of(value: object) -> bytes:
    """As text for programs, and for people who look twice."""
    return (json.dumps(value, indent=2) + "\n").encode()
