"""Listening at a path, however deep down it is, and serving who connects."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

R = TypeVar("R", bound=asyncio.StreamReader)
_CHUNK = 256 * 1024
_PATIENCE, _LOOK = 60.0, 0.1  # seconds


class Connections(Generic[R]):
    """Those to one socket, each served by a task of its own until somebody hangs up; then it can be opened again."""

    def __init__(
        self,
        serve: Callable[[R, asyncio.StreamWriter], Coroutine[Any, Any, None]],
        reader: Callable[[], R],
        most: Callable[[], int] | None = None,
    ) -> None:
        """`reader` makes one for each connection; over `most` at once there are none."""
        self._serve = serve
        self._reader = reader
        self._most = most
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._unbroken: Counter[asyncio.Task[Any] | None] = Counter()
        self._server: asyncio.Server | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody can connect."""
        return self._server is not None

    async def open(self, listener: socket.socket) -> None:
        """Serve there."""
        loop = asyncio.get_running_loop()

        def connected() -> asyncio.StreamReaderProtocol:
            reader = self._reader()
            return asyncio.StreamReaderProtocol(reader, lambda _, writer: self._accept(reader, writer))

        self._server = await loop.create_unix_server(connected, sock=listener)

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """What a connection's task does in the block, it does to the end also when somebody hangs up meanwhile."""
        task = asyncio.current_task()
        self._unbroken[task] += 1
        try:
            yield
        finally:
            self._unbroken[task] -= 1
            self._unbroken += Counter()  # forget those at zero

    async def hang_up(self) -> None:
        """Serve nobody any more; what was to be written and nobody reads is lost."""
        if self._server is not None:
            self._server.close()
        self._server = None
        deadline = time.monotonic() + _PATIENCE
        cancelled = set()
        while self._tasks:
            for task, writer in self._tasks.items():
                writer.transport.abort()
                if task not in cancelled and (not self._unbroken[task] or time.monotonic() > deadline):
                    task.cancel()
                    cancelled.add(task)
            await asyncio.wait(self._tasks, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)

    def _accept(self, reader: R, writer: asyncio.StreamWriter) -> None:
        # Without a server it was just being accepted when somebody hung up.
        if self._server is None or (self._most is not None and len(self._tasks) >= self._most()):
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks[task] = writer
        task.add_done_callback(self._tasks.pop)


async def tunnel(
    near: tuple[asyncio.StreamReader, asyncio.StreamWriter], far: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Pass raw bytes both ways to the end of what the far side sends; each side's end goes on to the other."""
    up = asyncio.create_task(_copy(near[0], far[1]))
    try:
        await _copy(far[0], near[1])
    finally:
        up.cancel()
        await asyncio.gather(up, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All of it, and then its end: the other direction may go on, as when `docker run -i` has read all its input."""
    try:
        while data := await reader.read(_CHUNK):
            see_open(writer)
            writer.write(data)
            await writer.drain()
        see_open(writer)
        writer.write_eof()
    except OSError:
        writer.close()  # the one who reads is gone, and the other side learns it by this


def see_open(writer: asyncio.StreamWriter) -> None:
    """Raise ConnectionResetError if the other side hung up; uvloop would say something else on a write."""
    if writer.is_closing():
        raise ConnectionResetError


def listen(path: Path, mode: int, owner: tuple[int, int] | None = None) -> socket.socket:
    """A socket bound there in place of what was there, with this mode and `owner`, its uid and gid. Raises OSError.

    By a descriptor, since a path may have 107 bytes (unix(7)), and volumes are deep down. Nobody can connect before
    mode and owner are right: it listens only when asyncio takes it.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        if owner is not None:
            os.chown(path.name, *owner, dir_fd=folder, follow_symlinks=False)
        path.chmod(mode)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener
