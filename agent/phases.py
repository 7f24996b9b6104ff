"""How long each phase of a build took, in seconds, in the order they came."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Phases:
    """Measured durations by name; a phase entered twice adds up."""

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(before or {})

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure the block as this phase, however it ends."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Count `seconds` to the phase."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + max(0.0, seconds), 4)

    def __str__(self) -> str:
        return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.seconds.items())
