"""How long the engine keeps what image builds made; without it, each build's image would be there for good."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from agent import references
from agent.builds import BuildState, Result
from agent.errors import EngineError, NotFound
from agent.images import names
from agent.threads import in_thread

if TYPE_CHECKING:
    from agent.build_store import BuildStore
    from agent.builds import Build
    from agent.engine import Engine
    from agent.metrics import Metrics

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """Takes their names from images that are older than `keep` seconds; the engine then removes what has none left.

    BuildKit's cache is not touched: the engine's own garbage collection sees to that.
    """

    engine: Engine
    store: BuildStore
    metrics: Metrics
    service_id: str
    keep: float

    async def look(self) -> None:
        """One look over all of them. Raises EngineError if the engine does not answer."""
        for reference in await self.engine.tags(names.folder(self.service_id)):
            build = await in_thread(self._build_of, reference)
            if build is None or not self._is_kept(build):
                await self._forget(reference, build)

    def _build_of(self, reference: str) -> Build | None:
        try:
            return self.store.get(references.parse(reference).path.rpartition("/")[2])
        except NotFound:
            return None

    def _is_kept(self, build: Build) -> bool:
        if build.state is not BuildState.FINISHED:
            return True
        made = build.outcome is not None and build.outcome.result is Result.SUCCESS
        return made and (build.finished_at or 0.0) + self.keep > time.time()

    async def _forget(self, reference: str, build: Build | None) -> None:
        record = build.image if build is not None else None
        pushed = [each.reference for each in record.pushed] if record is not None else []
        try:
            for tag in pushed:
                image = await self.engine.image(tag)
                if image is not None and record is not None and image.id == record.id:  # or somebody moved it
                    await self.engine.untag(tag)
            await self.engine.untag(reference)
        except EngineError as error:  # such as a container that still runs from it
            _log.info("an image stays for now", image=reference, error=str(error))
        else:
            self.metrics.reaped.labels("image").inc()
