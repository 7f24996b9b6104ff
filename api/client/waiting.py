"""The status line of a build whose log is still empty: where the build is, and how long that has taken."""

from __future__ import annotations

import contextlib
import threading
import time

from api.client import times
from api.client.connection import build_path
from api.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from api.client.connection import Connection
    from api.client.terminal import Screen

_EVERY = 0.5


class Waiting:
    """Asks for the build's state on a connection of its own and shows it, on a terminal only, until `stop`."""

    def __init__(self, connection: Connection, build_id: str, screen: Screen) -> None:
        self._connection = connection.twin()
        self._id = build_id
        self._screen = screen
        self._lock = threading.Lock()
        self._over = threading.Event()
        if screen.live:
            threading.Thread(target=self._show, daemon=True).start()

    def stop(self) -> None:
        """Take the line away for good; cheap when it is gone already."""
        if not self._over.is_set():
            with self._lock:
                self._over.set()
            self._screen.clear()

    def _show(self) -> None:
        began = time.monotonic()
        # A service that is gone ends this in silence: whoever follows the log learns it too, and says it.
        with contextlib.closing(self._connection), contextlib.suppress(ClientError):
            while not self._over.wait(_EVERY):
                state = self._connection.json("GET", build_path(self._id))["state"]
                with self._lock:
                    if not self._over.is_set():
                        self._screen.status(f"build {self._id}: {state}, {times.duration(time.monotonic() - began)}")
