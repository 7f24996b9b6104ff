"""What the API answers about the service itself: the core's records as JSON, for callers and for the OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field

from agent.builds import BuildState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.service import Check, Status


class Health(BaseModel):
    """The process answers."""

    status: str = Field(examples=["ok"])


class CheckView(BaseModel):
    """One thing that the service depends on."""

    name: str = Field(examples=["engine"])
    ok: bool
    reason: str | None = Field(description="What is wrong with it.")


class Readiness(BaseModel):
    """Whether builds can be run now."""

    ready: bool
    checks: list[CheckView]

    @classmethod
    def of(cls, checks: Sequence[Check]) -> Self:
        """The view of these checks."""
        views = [CheckView(name=each.name, ok=each.reason is None, reason=each.reason) for each in checks]
        return cls(ready=all(each.ok for each in views), checks=views)


class EngineView(BaseModel):
    """The engine as it last described itself; `error` is why it does not answer now."""

    version: str
    api_version: str
    os: str
    cpus: int
    memory: int = Field(description="Bytes.")
    storage_driver: str
    error: str | None


class Slots(BaseModel):
    """Builds at once."""

    total: int
    used: int


class QueueView(BaseModel):
    """Builds by state; `waiting_for` is why the first in the queue does not start."""

    queued: int
    preparing: int
    connected: int = Field(description="Agents that wait for a build.")
    running: int
    waiting_for: str | None


class Disk(BaseModel):
    """Bytes of the disk that holds the data."""

    free: int
    total: int


class Memory(BaseModel):
    """Bytes of the host's memory."""

    available: int
    total: int


class ControllerView(BaseModel):
    """The controller as it was last seen."""

    model_config = ConfigDict(from_attributes=True)

    url: str
    version: str | None
    node: str = Field(description="The name of this service's registration node.")
    waiting: int | None = Field(description="Items in its queue; null while it does not answer.")
    error: str | None = Field(description="Why it cannot be used.")


class StatusView(BaseModel):
    """The whole service at one look."""

    version: str
    service_id: str
    draining: bool
    controller: ControllerView | None
    engine: EngineView
    slots: Slots
    queue: QueueView
    disk: Disk
    memory: Memory

    @classmethod
    def of(cls, status: Status, version: str) -> Self:
        """The view of a service's status."""
        engine, host = status.engine, status.host
        return cls(
            version=version,
            service_id=status.service_id,
            draining=status.draining,
            controller=status.controller and ControllerView.model_validate(status.controller),
            engine=EngineView(
                version=engine.version,
                api_version=engine.api_version,
                os=engine.os,
                cpus=engine.cpus,
                memory=engine.memory,
                storage_driver=engine.storage_driver,
                error=status.engine_error,
            ),
            slots=Slots(total=status.slots, used=status.slots_used),
            queue=QueueView(
                queued=status.counts[BuildState.QUEUED],
                preparing=status.counts[BuildState.PREPARING],
                connected=status.counts[BuildState.CONNECTED],
                running=status.counts[BuildState.RUNNING],
                waiting_for=status.waiting_for,
            ),
            disk=Disk(free=host.disk_free, total=host.disk_total),
            memory=Memory(available=host.memory_available, total=host.memory_total),
        )
