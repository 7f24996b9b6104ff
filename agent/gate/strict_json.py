"""JSON that no two parsers can read differently; where that is not sure, it is refused.

The engine reads with Go's encoding/json. That matches keys whatever their case, with Unicode's folding (U+017F is an s,
the Kelvin sign a k), takes the last of two equal keys, and reads the first value alone. So no two keys of one object
may fold alike, and nothing may follow the value.
"""

from __future__ import annotations

import json
from math import isinf
from typing import Any

from agent.errors import InvalidRequest, TooLarge

MAX = 1024 * 1024  # bytes
_DEPTH = 64
_LARGEST = 2**63


def parse(data: bytes) -> Any:
    """The value. Raises InvalidRequest, TooLarge."""
    if len(data) > MAX:
        raise TooLarge(f"the JSON is over {MAX} bytes")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_real,
            parse_constant=_no_number,
        )
    except RecursionError as error:
        raise InvalidRequest("the JSON is nested too deep") from error
    except ValueError as error:
        raise InvalidRequest(f"the body is no JSON: {error}") from error
    _check(value, 0)
    return value


def emit(value: Any) -> bytes:
    """The value as JSON in ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def fold(key: str) -> str:
    """What two keys have in common that Go takes for one (encoding/json, foldFunc)."""
    return key.replace("\u017f", "s").replace("\u212a", "k").casefold()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    folded: dict[str, list[Any]] = {}
    for key, value in pairs:
        folded.setdefault(fold(key), []).append(value)
    # docker-java writes enableIPv6 and EnableIPv6, both null if nobody asked: there is but one way to read that.
    if any(len(values) > 1 and any(each is not None for each in values) for values in folded.values()):
        raise InvalidRequest("the JSON has a key twice in one object, or two that differ in case alone")
    return {key: value for key, value in pairs if len(folded[fold(key)]) == 1}


def told(value: object) -> int:
    """Bytes that it takes at most as the engine tells it (Go, encoding/json: six for one of `<>&` and many others)."""
    text = json.dumps(value)
    return len(text) + 5 * sum(map(text.count, "<>&"))


def _integer(text: str) -> int:
    if len(text) > 20 or not -_LARGEST <= int(text) < _LARGEST:
        raise InvalidRequest(f"the number {text[:30]} is too large")
    return int(text)


def _real(text: str) -> float:
    if len(text) > 40:
        raise InvalidRequest(f"the number {text[:30]}... is too long")
    value = float(text)
    if isinf(value):  # 1e400: it would be written as Infinity, which is no JSON
        raise InvalidRequest(f"the number {text} is too large")
    return value


def _no_number(text: str) -> Any:
    raise InvalidRequest(f"{text} is no number of JSON's")


def _check(value: Any, depth: int) -> None:
    """No value too deep, and no text that cannot be written as UTF-8 or ends early in C."""
    if depth > _DEPTH:
        raise InvalidRequest("the JSON is nested too deep")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for key, each in value.items():
            _check_text(key)
            _check(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _check(each, depth + 1)


def _check_text(text: str) -> None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidRequest("a text in the JSON has a NUL or half a character")
