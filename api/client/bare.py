"""What `sibling` goes without in a build's own container, where it talks to the service alone, over a Unix socket.

http.client loads OpenSSL, for https, and all of `email`, to read header lines: together most of what a command loads.
No connection there is encrypted, and no header holds more than names and values, as RFC 9110, section 5, has them.
"""

from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def go_without() -> None:
    """Before anything imports http.client: it gets these instead."""
    sys.modules["ssl"] = None  # type: ignore[assignment]  # as it is in a Python without it
    email, message, parser = (ModuleType(name) for name in ("email", "email.message", "email.parser"))
    vars(email).update(message=message, parser=parser)
    vars(message).update(Message=Message)
    vars(parser).update(Parser=Parser)
    sys.modules.update({module.__name__: module for module in (email, message, parser)})


class Message:
    """The header fields of an answer: of `email.message.Message` what http.client and this client use."""

    def __init__(self) -> None:
        self._fields: list[tuple[str, str]] = []

    def add(self, line: str) -> None:
        """Take one field line."""
        name, _, value = line.partition(":")
        self._fields.append((name.lower(), value.strip(" \t")))

    def get_all(self, name: str, failobj: Any = None) -> Any:
        """The values of all fields of that name."""
        return [value for each, value in self._fields if each == name.lower()] or failobj

    def get(self, name: str, failobj: Any = None) -> Any:
        """The value of the first field of that name."""
        return self.get_all(name, [failobj])[0]

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None


class Parser:
    """`email.parser.Parser` for an answer's header, which makes `_class` of it."""

    def __init__(self, _class: type[Message]) -> None:
        self._class = _class

    def parsestr(self, text: str) -> Message:
        """The header of these lines, up to the empty one."""
        message = self._class()
        for line in text.split("\r\n"):
            if line:
                message.add(line)
        return message
