"""What INT (Ctrl-C), TERM and HUP do while `sibling run` works."""

from __future__ import annotations

import signal

from api.client.errors import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Signals:
    """In its `with` block the first signal calls `respond`, at first `leave`; every later one leaves at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.respond: Callable[[], None] = self.leave
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
            # Ignored means that a shell put us in the background, or nohup: stay deaf to it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def leave(self) -> None:
        """Raise Interrupted for the signal that came first."""
        raise Interrupted(self.received or signal.SIGINT)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            self.leave()
        self.received = number
        self.respond()
