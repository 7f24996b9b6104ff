"""The steps of an image's build on a terminal as they run, the way Docker's own command shows them."""

from __future__ import annotations

import json
import threading
import time

from api.client import terminal
from api.client.steps import Steps
from api.client.terminal import size, width_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from api.client.steps import Part, Step
    from api.client.terminal import Screen

_REFRESH = 0.15  # seconds
_SHOWN_LINES = 5
_BLUE, _RED, _YELLOW, _RESET = "\x1b[34m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


class Progress:
    """The steps on a terminal. `feed` takes the log with BuildKit's messages; in its `with` block they move."""

    def __init__(self, screen: Screen, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._clock = clock
        self._began = clock()
        self._steps = Steps(clock)
        self._colours = terminal.coloured(terminal.MESSAGES)
        self._rest = b""
        self._above: list[str] = []
        self._told: dict[Step, str] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._move, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        with self._lock:
            if self._rest:
                self._line(self._rest)
            self._screen.show([], above=self._news())

    def feed(self, data: bytes) -> None:
        """More of the log; what is no message of BuildKit's is shown as it is."""
        with self._lock:
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._line(line)

    def draw(self) -> None:
        """Show what is new, and the running steps."""
        with self._lock:
            self._screen.show(self._block(), above=self._news())

    def _move(self) -> None:
        while not self._over.wait(_REFRESH):
            self.draw()

    def _line(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            self._steps.take(message)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._above.append(line.decode("utf-8", "replace").rstrip("\r"))

    def _news(self) -> list[str]:
        """Lines that stay: steps that ended, once; all there is of one that failed; then what else was said."""
        news = []
        for step in sorted(self._steps, key=lambda step: step.completed):
            if step.seconds is None or self._told.get(step) == (line := self._ended(step)):
                continue
            self._told[step] = line
            news += [line, *(self._failure(step) if step.error else ())]
        news += [self._coloured(_YELLOW, f"WARN: {warning}") for warning in self._steps.warnings]
        news += self._above
        self._steps.warnings.clear()
        self._above.clear()
        return news

    def _ended(self, step: Step) -> str:
        word = "CACHED " if step.cached else "ERROR " if step.error else ""
        return self._coloured(_RED if step.error else _BLUE, self._aligned(f" => {word}{step.name}", step.seconds))

    def _failure(self, step: Step) -> list[str]:
        return ["------", f" > {step.name}:", *step.output(), "------"]

    def _block(self) -> list[str]:
        steps = list(self._steps)
        ended = sum(step.seconds is not None for step in steps)
        lines = [f"[+] Building {self._clock() - self._began:.1f}s ({ended}/{len(steps)})"]
        for step in steps:
            if step.running and step.begun is not None:
                lines.append(self._aligned(f" => {step.name}", self._clock() - step.begun))
                lines += [f" => => {_counted(part)}" for part in step.parts.values() if not part.ended]
                lines += [f" => => # {line}" for line in step.output()[-_SHOWN_LINES:]]
        return lines

    def _aligned(self, text: str, seconds: float | None) -> str:
        time_shown = f" {seconds or 0:.1f}s"
        room = self._screen.width - 1 - len(time_shown)
        text = terminal.cut(text, room)
        return text + " " * (room - width_of(text)) + time_shown

    def _coloured(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colours else text


def _counted(part: Part) -> str:
    if not part.current:
        return part.name
    return f"{part.name} {size(part.current)}" + (f" / {size(part.total)}" if part.total else "")
