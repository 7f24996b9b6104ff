"""Following a container's output into the build's log until it has ended, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import anyio

from agent.errors import ContainerNotFound, EngineError, EngineUnavailable

if TYPE_CHECKING:
    from agent.build_log import BuildLog
    from agent.engine import Engine, ExitStatus, OutputSink, OutputStream

# A container whose output ended is gone within this, unless it closed its own output, or our stream was cut.
EXIT_WAIT = 2.0
# The end of the output and of the process are one event; if they are further apart, the stream may have been cut
# before.
SAME_MOMENT = 0.05
# Of so little, in bytes, the engine's copy is read at the end in any case: it takes a millisecond, and leaves no doubt.
SMALL = 16 * 1024
RETRY = 0.5  # seconds
# After so many seconds without an error the next one is a new trouble.
CALM = 60.0


class ContainerOutput:
    """One container's output on its way into `log`. `lost` tells whether the engine failed us in between."""

    def __init__(self, engine: Engine, container: str, log: BuildLog, patience: float) -> None:
        self._engine = engine
        self._container = container
        self._log = log
        self._patience = patience
        self.lost = False
        self._first_error = self._last_error = 0.0

    async def to_end(self, attached: OutputStream | None) -> ExitStatus:
        """Follow to the container's end and return how it ended, with every byte in the log.

        `attached` is the stream from before the start; without one, or once it broke, the output is read from the
        engine's own copy, less what the log has. Raises ContainerNotFound if someone removed the container,
        EngineUnavailable if the engine stays away for longer than the patience, and whatever the log raises.
        """
        stream = attached
        sink: OutputSink = self._log.write
        while True:
            try:
                if stream is None:
                    stream, sink = await self._engine.logs(self._container, follow=True), self._log.replay_sink()
                ended = await _pump(stream, sink)
                status = await self._exit()
                if status is not None:
                    if stream is not attached or not self._surely_whole(status, ended):
                        await _pump(await self._engine.logs(self._container, follow=False), self._log.replay_sink())
                    return status
            except ContainerNotFound:
                raise
            except EngineError as error:
                await self._engine_back(error)
            stream = None

    def _surely_whole(self, status: ExitStatus, ended: float) -> bool:
        """Whether the attached stream ended because the container did: a cut between two frames looks the same."""
        much = sum(self._log.raw.values()) > SMALL
        return much and abs(status.finished_at - ended) < SAME_MOMENT

    async def _exit(self) -> ExitStatus | None:
        """How the container ended, or None if it goes on though its output ended."""
        with anyio.move_on_after(EXIT_WAIT):
            return await self._engine.wait(self._container)
        return None

    async def _engine_back(self, error: EngineError) -> None:
        """Give the engine a moment; raises once errors went on for longer than the patience."""
        now = time.monotonic()
        if not self.lost or now - self._last_error > CALM:
            self._first_error = now
        self.lost, self._last_error = True, now
        if now - self._first_error > self._patience:
            raise EngineUnavailable(f"the engine did not recover within {self._patience:g} s: {error}") from error
        await asyncio.sleep(RETRY)


async def _pump(stream: OutputStream, sink: OutputSink) -> float:
    """Read the stream to its end; returns when that was."""
    try:
        await stream.pump(sink)
        return time.time()
    finally:
        stream.close()
