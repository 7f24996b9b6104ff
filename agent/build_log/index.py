"""The index of a log: who wrote which part of it when, and how much of the container's output it stands for.

Records of 40 bytes, one for each write. A log is as long as its index says; bytes beyond are of a write that a crash
cut off.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_RECORD = Struct("<QQQQB7x")
_BATCH = 1024  # records read at once
END = 255  # in the place of a stream: the log is complete


class Record(NamedTuple):
    """One write: where it ends, when it was, and the bytes of each stream consumed by then, before masking."""

    end: int
    at_ns: int
    stdout: int
    stderr: int
    stream: int

    def pack(self) -> bytes:
        """As it stands on the disk."""
        return _RECORD.pack(*self)


NOTHING = Record(0, 0, 0, 0, 0)


def path_of(log: Path) -> Path:
    """The index beside a log."""
    return log.with_suffix(".idx")


def whole_records(descriptor: int) -> int:
    """How many records are there, less one that a crash cut off."""
    return os.fstat(descriptor).st_size // _RECORD.size


def last(descriptor: int) -> Record:
    """The last whole record, or `NOTHING`."""
    count = whole_records(descriptor)
    return _read(descriptor, count - 1, 1)[0] if count else NOTHING


def cut_torn(descriptor: int) -> None:
    """Cut off a record that a crash cut off."""
    os.ftruncate(descriptor, whole_records(descriptor) * _RECORD.size)


def records_from(descriptor: int, start: int) -> Iterator[Record]:
    """The records whose part of the log ends after byte `start`, up to the last one that is there now."""
    number, count = _first_after(descriptor, start), whole_records(descriptor)
    while number < count:
        batch = _read(descriptor, number, min(_BATCH, count - number))
        yield from batch
        number += len(batch)


def _first_after(descriptor: int, start: int) -> int:
    low, high = 0, whole_records(descriptor)
    while low < high:
        middle = (low + high) // 2
        if _read(descriptor, middle, 1)[0].end > start:
            high = middle
        else:
            low = middle + 1
    return low


def _read(descriptor: int, number: int, count: int) -> list[Record]:
    data = os.pread(descriptor, count * _RECORD.size, number * _RECORD.size)
    return [Record(*values) for values in _RECORD.iter_unpack(data)]
