"""What was made through a gate, on the disk: what is in it is the build's own, and goes when the build does.

A label would not do: images carry labels into containers of others, and everyone can read them.
"""

from __future__ import annotations

import json
import os
from typing import IO, TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal[
    "container",
    "network",
    "volume",
    "image",
    "tag",
    "intent",
    "push",
    "workspace",
    "builder",
    "restart",
    "asked",
    "pull",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_TOLD_OF: frozenset[Kind] = frozenset({"container", "network", "volume"})  # by events, also after they are gone
_MOST_LINES = 10_000


class Journal:
    """A file of lines, each an addition or a removal. Opening it takes up what an earlier gate left there.

    A thing has a name, which is its full id where it has one. Some have a value: a tag the id of its image, an image
    the name by which the engine keeps it, an intent the kind of what is about to be made with it in a label, a push the
    image that has its name for as long as it takes, a restart what `restarts` knows of a container. A builder is a
    container that is none of the build's, by its name. What was asked for in a container is as `asked` has it. A
    pull is a name with a digest that the engine has by it.
    """

    def __init__(self, file: Path) -> None:
        """Raises OSError, ValueError for a file that is no journal."""
        self._things: dict[Kind, dict[str, str]] = {kind: {} for kind in KINDS}
        self._ever: dict[Kind, set[str]] = {kind: set() for kind in _TOLD_OF}
        if file.exists():
            whole, end, _ = file.read_text().rpartition("\n")  # a line without its end: what it tells was not done
            for line in whole.splitlines():
                self._take(*json.loads(line))
            os.truncate(file, len((whole + end).encode()))
        self._path = file
        self._file = _appended(file)
        self._short = file.with_name(f"{file.name}.short")
        self._lines = 0  # written since it was as short as can be

    def add(self, kind: Kind, name: str, value: str = "") -> None:
        """It is the build's from now on."""
        if self._things[kind].get(name) != value:
            self._write("+", kind, name, value)

    def remove(self, kind: Kind, name: str) -> None:
        """It is gone."""
        if name in self._things[kind]:
            self._write("-", kind, name, "")

    def has(self, kind: Kind, name: str) -> bool:
        """Whether it is the build's."""
        return name in self._things[kind]

    def had(self, kind: Kind, name: str) -> bool:
        """Whether a container, network or volume is the build's, or was; an earlier gate's may be forgotten."""
        return name in self._ever[kind]

    def all(self, kind: Kind) -> dict[str, str]:
        """Those there are and their values, the oldest first."""
        return dict(self._things[kind])

    def count(self, kind: Kind) -> int:
        """How many there are."""
        return len(self._things[kind])

    @property
    def folder(self) -> Path:
        """Where its file is."""
        return self._path.parent

    def delete(self) -> None:
        """Nothing is left."""
        self._file.close()
        self._short.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)

    def _write(self, sign: str, kind: Kind, name: str, value: str) -> None:
        self._file.write(json.dumps([sign, kind, name, value]) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._take(sign, kind, name, value)
        self._lines += 1 + len(value) // 1024  # a long one counts as several
        if self._lines > _MOST_LINES + 2 * sum(map(len, self._things.values())):
            self._shorten()

    def _shorten(self) -> None:
        """Leave out what is not there any more: what is made and removed again and again would fill the disk."""
        short = self._short
        short.unlink(missing_ok=True)
        with _appended(short) as file:
            for kind, things in self._things.items():
                for name, value in things.items():
                    file.write(json.dumps(["+", kind, name, value]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._file.close()
        short.replace(self._path)
        self._file, self._lines = _appended(self._path), 0

    def _take(self, sign: str, kind: Kind, name: str, value: str) -> None:
        if sign == "+":
            self._things[kind][name] = value
            if kind in self._ever:
                self._ever[kind].add(name)
        else:
            self._things[kind].pop(name, None)


def _appended(file: Path) -> IO[str]:
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a")
