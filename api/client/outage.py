"""How long the service has been away from one request: when to try again, and when to give up."""

from __future__ import annotations

import time

from api.client.errors import connection_lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
# An answer that was cut off sooner is not a sign of life: a service that always cuts must not be asked for ever.
_ALIVE_AFTER = 1.0


class Outage:
    """Pauses between the attempts of one request. `patience` is in seconds; `say` tells the person once per outage."""

    def __init__(self, url: str, patience: float, say: Callable[[str], None]) -> None:
        self._url = url
        self._patience = patience
        self._say = say
        self._answered_at: float | None = None
        self.over()

    def over(self) -> None:
        """Bytes came."""
        self._began: float | None = None
        self._pause = 0.0

    def answered(self) -> None:
        """The service answered; whether it stays is not known yet."""
        self._answered_at = time.monotonic()

    def pause(self, error: Exception) -> None:
        """Wait for the next attempt; raises CannotConnect when patience is over."""
        now = time.monotonic()
        if self._answered_at is not None and now - self._answered_at > _ALIVE_AFTER:
            self.over()
        self._answered_at = None
        if self._began is None:
            self._began = now  # and try at once: a kept-alive connection may merely have been closed as idle
            return
        if now - self._began > self._patience:
            raise connection_lost(self._url, error, now - self._began) from error
        if not self._pause:
            self._say(f"The connection to the service is lost ({error}); trying again.")
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) or _FIRST_PAUSE
        time.sleep(self._pause)
