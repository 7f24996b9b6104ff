"""Which queued build starts when: by priority and age, while slots, memory and disk allow.

A build that does not fit holds those behind it, so that big builds are not starved by small ones. No counters are kept:
what runs is what has a task here, and what it may use is in its own record.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from agent import outcomes, policy
from agent.builds import UNFINISHED, Build, Lane, Reason
from agent.changes import Changes, within
from agent.errors import Rejected, StaleClaim, StoreUnavailable
from agent.stop import Stop
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.build_store import BuildStore
    from agent.host import Host
    from agent.policy import Place
    from agent.settings import Settings
    from agent.work import BuildRunner

_log = structlog.get_logger()
LEASE = 60.0  # seconds that a claim holds without being renewed
TICK = 5.0  # seconds between looks at the queue when nothing happens: memory and disk come back unannounced


class Scheduler:
    """Takes builds from the store and runs each in a task of its own."""

    def __init__(
        self,
        *,
        store: BuildStore,
        runner_of: Callable[[Build], BuildRunner],
        settings: Settings,
        place: Place,
        engine_up: Callable[[], bool],
        changes: Changes,
        on_finished: Callable[[Build], None],
        read_host: Callable[[], Host],
        cancel: Callable[[str], Awaitable[object]],
    ) -> None:
        self._store = store
        self._runner_of = runner_of
        self._settings = settings
        self._place = place
        self._cancel = cancel
        self._engine_up = engine_up
        self._changes = changes
        self._on_finished = on_finished
        self._read_host = read_host
        self._owner = place.service_id
        self._wake = asyncio.Event()
        self._renew_at = 0.0
        self._stops: dict[str, Stop] = {}
        self._running: dict[str, tuple[Build, asyncio.Task[None]]] = {}
        self.draining = False  # start nothing more
        self.ended = asyncio.Event()  # something that ran has ended, until somebody who waits for that clears it
        self.waiting_for: str | None = None  # why the head of the queue does not start, for the status

    @property
    def running(self) -> frozenset[str]:
        """The ids of builds whose container or workspace may be there now."""
        return frozenset(self._running)

    def wake(self) -> None:
        """Look at the queue now."""
        self._wake.set()

    def stop(self, build_id: str, reason: Reason = Reason.CANCELLED) -> None:
        """Ask a running build to stop; it ends as ABORTED."""
        if build_id in self._stops:
            self._stops[build_id].ask(reason)

    async def recover(self) -> None:
        """Go on with what an earlier run of the service had begun."""
        for build in await in_thread(self._store.adopt, self._owner, time.time() + LEASE):
            self._drive(build)

    async def turn(self) -> None:
        """Start what may start now, then wait until something changes."""
        self._wake.clear()
        await self._keep_claims()
        for lane in Lane:
            # A draining service still starts what a running build waits for.
            while (lane is not Lane.BUILDS or not self.draining) and self._engine_up():
                build = await self._claim(lane)
                if build is None:
                    break
                self._drive(build)
        await within(self._wake, TICK)

    async def close(self) -> None:
        """Let go of all builds and leave their containers running, as a crash would, for the next start."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_claims(self) -> None:
        if time.monotonic() < self._renew_at:
            return
        await in_thread(self._store.renew, self._owner, time.time() + LEASE)
        self._renew_at = time.monotonic() + LEASE / 3
        # After our own are renewed: a suspended host must not lose what it runs.
        await in_thread(self._store.release_expired)

    async def _claim(self, lane: Lane) -> Build | None:
        return await in_thread(self._store.claim, self._owner, time.time() + LEASE, self._admits, lane=lane)

    def _admits(self, head: Build) -> bool:
        """Whether the head of a lane may start now; called in the store's thread, and reads only."""
        reason = self._hindrance(head)
        if head.lane is Lane.BUILDS:
            self.waiting_for = reason
        return reason is None

    def _hindrance(self, head: Build) -> str | None:
        """Why it may not start now. What runs inside of a build waits for slots of its own, lest both wait forever."""
        host, queue = self._read_host(), self._settings.queue
        beside = [build for build, _ in list(self._running.values()) if build.lane is head.lane]
        of_images = head.lane in (Lane.IMAGES, Lane.HOOKS)
        slots = self._settings.images.slots if of_images else queue.slots
        if len(beside) >= slots:
            return f"all {slots} slots are taken"
        if head.lane is Lane.BUILDS and beside:
            used = sum(self._memory_of(build) for build in beside)
            if used + self._memory_of(head) > host.memory_total * queue.memory_overcommit:
                return "the memory limits of running builds leave no room for it"
        if host.memory_available < queue.min_free_memory:
            return f"the host has only {host.memory_available >> 20} MiB of memory available"
        if host.disk_free < queue.min_free_disk:
            return f"the data volume has only {host.disk_free >> 20} MiB left"
        return None

    def _memory_of(self, build: Build) -> int:
        try:
            return policy.limits(build.container, self._settings.builds, self._place).memory
        except Rejected:  # an agent's label may ask for anything; it is refused as soon as it begins
            return 0

    async def _to_end(self, build: Build, stop: Stop) -> Build:
        """Run it, again and again while the store cannot be written: what it came to must not be lost."""
        again = False
        while True:
            try:
                if again:
                    build = await in_thread(self._store.get, build.id)
                return await self._runner_of(build).run(build, stop, again=again)
            except StoreUnavailable as error:
                _log.warning("trying again", build=build.id, error=str(error))
                again = True
                await asyncio.sleep(TICK)
            except StaleClaim:
                raise
            except Exception as error:  # noqa: BLE001 - see below
                # A fault of ours must end as this build's result, not as a build that runs for ever.
                _log.exception("fault in Sibling", build=build.id)
                held = await in_thread(self._store.get, build.id)
                ended = outcomes.fault(error)
                return await in_thread(self._store.finish, held, ended, phases=held.phases, artifacts=())

    async def _end_children(self, build: Build) -> None:
        """Cancel what it asked for from inside, and its hooks. The reaper does it if we are cut off here."""
        for child in await in_thread(self._store.list, states=UNFINISHED, parent=build.id):
            await self._cancel(child.id)

    def _drive(self, build: Build) -> None:
        stop = Stop()
        if build.cancel_requested:
            stop.ask(Reason.CANCELLED)
        self._stops[build.id] = stop
        self._running[build.id] = (build, asyncio.create_task(self._one(build, stop), name=build.id))

    async def _one(self, build: Build, stop: Stop) -> None:
        self._changes.announce(build.id)
        try:
            finished = await self._to_end(build, stop)
        except StaleClaim as error:
            _log.warning("let go of a build that another claimed", build=build.id, error=str(error))
        else:
            self._on_finished(finished)
            self._changes.announce(build.id)
            await self._end_children(build)
            await self._runner_of(build).clean(build)
        finally:
            del self._stops[build.id], self._running[build.id]
            self.ended.set()
            self.wake()
