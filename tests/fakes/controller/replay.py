"""Recorded exchanges asked again: what differs between the recorded answers and the simulator's.

A line of recordings/*.jsonl is one exchange with a real controller: who asked what, and the answer, an HTML page as its
title. Times, secrets and sizes differ by nature and are compared by kind only.
"""

from __future__ import annotations

import base64
import html
import json
import re
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from .simulator import Simulator

FOLDER = Path(__file__).parent / "recordings"
# what is not simulated, or is a measurement
_IGNORED = {"monitorData", "duration", "estimatedDuration", "slaveAgentPort", "property", "healthReport", "crumb"}
_ANY_ORDER = {"assignedLabels", "nodes"}


def exchanges(name: str) -> list[dict[str, Any]]:
    (path,) = FOLDER.glob(f"{name}-*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def replay(
    simulator: Simulator,
    name: str,
    *,
    before: Mapping[int, Callable[[], object]] | None = None,
    without: Collection[int] = (),
) -> list[str]:
    """Ask all exchanges of a recording in their order but those `without`; before some of them something happens.

    Returns the differences as sentences.
    """
    asker = _Asker(simulator)
    found: list[str] = []
    for number, exchange in enumerate(exchanges(name)):
        if before and number in before:
            before[number]()
        if number in without:
            continue
        said = [f"{name}[{number}] {exchange['request']}: {difference}" for difference in asker.differences(exchange)]
        found += said
    return found


class _Asker:
    """Remembers the crumb and the session that were issued, in place of the recorded ones."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._crumb = self._cookie = ""

    def differences(self, exchange: dict[str, Any]) -> list[str]:
        status, headers, body = self._ask(exchange)
        if status != exchange["status"]:
            return [f"status {status} instead of {exchange['status']}: {body[:300].decode(errors='replace')}"]
        found = list(_headers(exchange["says"], headers))
        text = body.decode("iso-8859-1" if "8859" in headers.get("content-type", "") else "utf-8")
        if "json" in exchange:
            found += _compare("", _plain(exchange["json"]), _plain(json.loads(self._as_recorded(text))))
        elif exchange.get("title"):
            found += _compare("title", exchange["title"], _title(text))
        elif "text" in exchange:
            expected = _words(exchange["text"])
            answered = _words(self._as_recorded(text))
            found += _compare("text", expected, answered[: len(expected)] if exchange.get("cut") else answered)
        return found

    def _ask(self, exchange: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        address = urlsplit(self._simulator.url)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=20)
        method, path = exchange["request"].split(" ", 1)
        body = exchange.get("body")
        try:
            connection.request(
                method, path, None if body is None else self._filled(body).encode(), self._head(exchange)
            )
            answer = connection.getresponse()
            headers = {name.lower(): self._as_recorded(value) for name, value in answer.getheaders()}
            data = answer.read()
        finally:
            connection.close()
        if "Set-Cookie" in exchange["says"]:
            self._cookie = headers["set-cookie"].partition(";")[0]
            self._crumb = json.loads(data).get("crumb", "") if answer.status == 200 else ""
        return answer.status, headers, data

    def _head(self, exchange: dict[str, Any]) -> dict[str, str]:
        head = {"Accept-Language": "en", **exchange.get("headers", {})}
        if head.get("Jenkins-Crumb", "0").strip("0"):
            head["Jenkins-Crumb"] = self._crumb
        if "Cookie" in head:
            head["Cookie"] = self._cookie
        who = exchange.get("as")
        if who:
            user = {"token": f"admin:{self._simulator.token}", "password": "admin:admin"}.get(who, who)
            head["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        return head

    def _filled(self, text: str) -> str:
        return text.replace("URL/", self._simulator.url)

    def _as_recorded(self, text: str) -> str:
        return text.replace(self._simulator.url, "URL/")


def _headers(expected: dict[str, str], answered: dict[str, str]) -> list[str]:
    found = []
    for name in ("Content-Type", "Location", "X-Error", "Allow", "X-More-Data", "WWW-Authenticate"):
        found += _compare(name, expected.get(name), answered.get(name.lower()))
    for name in ("X-Jenkins", "X-Hudson", "X-Text-Size", "Content-Disposition", "X-Content-Type-Options"):
        found += _compare(f"{name} is there", name in expected, name.lower() in answered)
    return found


def _title(text: str) -> str | None:
    found = re.search("<title>(.*?)</title>", text, re.DOTALL)
    return html.unescape(found[1]) if found else None


def _words(text: str) -> str:
    """Without what is made anew each time: notes, secrets, names of scripts, quiet times."""
    text = re.sub(r"\x1b\[8mha:.*?\x1b\[0m", "<note>", text)
    text = re.sub(r"[0-9a-f]{64}", "<secret>", text)
    text = re.sub(r"ErrorId: [0-9a-f-]+", "<id>", text)
    text = re.sub(r"Channel@[0-9a-f]+", "<channel>", text)
    text = re.sub(r"\w{3} \w{3} \d\d \d\d:\d\d:\d\d UTC \d{4}", "<time>", text)
    return re.sub(r"jenkins\d+\.sh", "<script>", text)


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner, name) for name, inner in value.items() if name not in _IGNORED}
    if isinstance(value, list):
        items = [_plain(inner) for inner in value]
        return sorted(items, key=json.dumps) if key in _ANY_ORDER else items
    if isinstance(value, int) and value > 10**12:
        return "<time>"
    if isinstance(value, str):
        return re.sub(r"Expires in \d+ sec", "Expires in <time>", value)
    return value


def _compare(where: str, expected: Any, answered: Any) -> list[str]:
    if isinstance(expected, dict) and isinstance(answered, dict):
        found = [f"{where} lacks {name}" for name in expected if name not in answered]
        found += [f"{where} has {name} too" for name in answered if name not in expected]
        for name in expected.keys() & answered.keys():
            found += _compare(f"{where}.{name}", expected[name], answered[name])
        return found
    if isinstance(expected, list) and isinstance(answered, list) and len(expected) == len(answered):
        return [
            difference
            for number, pair in enumerate(zip(expected, answered, strict=True))
            for difference in _compare(f"{where}[{number}]", *pair)
        ]
    return [] if expected == answered else [f"{where} is {answered!r} instead of {expected!r}"]
