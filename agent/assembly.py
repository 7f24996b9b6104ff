"""Building a service from its settings and an engine: what is there is found, what is missing is made."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING

import anyio
import stamina
from cryptography.fernet import Fernet

from agent import busybox, data_volume, toolkit
from agent.agents.door import DoorParts, open_door
from agent.build_log.logs import BuildLogs
from agent.build_store import BuildStore
from agent.builds import Build, BuildRequest
from agent.changes import Changes
from agent.command_work import Commands
from agent.engine import LABEL_ROLE, LABEL_SERVICE
from agent.engine_watch import EngineWatch
from agent.errors import EngineUnavailable, InvalidSettings
from agent.files.artifacts import Artifacts
from agent.files.private_file import keep_private
from agent.files.sources import Sources
from agent.files.workspace import Workspaces
from agent.host import read_host
from agent.metrics import Metrics
from agent.policy import Place
from agent.preparation import Preparation
from agent.reaper import Reaper
from agent.runner import Runner
from agent.scheduler import Scheduler
from agent.service import Service
from agent.threads import allow_threads, in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from agent.agents.agent_work import AgentWork
    from agent.command_work import CommandWork
    from agent.controller import Controller
    from agent.engine import Engine, EngineInfo
    from agent.settings import Settings
    from agent.work import Held

ENGINE_WAIT = 30.0  # seconds that a start waits for an engine that is just starting too


async def assemble(settings: Settings, engine: Engine, controller: Controller | None = None) -> Service:
    """A service that is ready to run, with a controller or without.

    Raises EngineUnavailable, InvalidSettings, or StoreUnavailable with the cure.
    """
    info = await _first_answer(engine)
    volume = await data_volume.locate(engine, settings.data)
    service_id = keep_private(volume.dir / "service-id", lambda: uuid.uuid4().hex).decode()
    allow_threads(settings.queue.slots + 64)
    await engine.ensure_network(settings.engine.network, {LABEL_SERVICE: service_id, LABEL_ROLE: "network"})
    place = Place(
        service_id=service_id,
        volume=volume.name,
        toolkit=await in_thread(toolkit.install, volume.dir, busybox.find_static_busybox()),
        network=settings.engine.network,
        runtime=settings.engine.runtime,
        cpus=info.cpus,
        memory=info.memory,
        agent_network=settings.jenkins.network,
    )
    return await in_thread(_wire, settings, engine, info, place, volume.dir, controller)


@stamina.retry(on=EngineUnavailable, attempts=None, timeout=ENGINE_WAIT, wait_initial=0.2, wait_max=2.0)
async def _first_answer(engine: Engine) -> EngineInfo:
    return await engine.info()


def _wire(
    settings: Settings,
    engine: Engine,
    info: EngineInfo,
    place: Place,
    data_dir: Path,
    controller: Controller | None,
) -> Service:
    key = keep_private(data_dir / "secret-key", lambda: Fernet.generate_key().decode())
    store = BuildStore(data_dir / "builds.db", key)
    logs = BuildLogs(data_dir / "logs")
    workspaces = Workspaces(data_dir / "workspaces")
    sources = Sources(data_dir / "sources", settings.sources)
    artifacts = Artifacts(data_dir / "artifacts", settings.builds.max_artifacts, settings.builds.max_artifact_files)
    changes, metrics = Changes(), Metrics()
    commands = Commands(settings=settings, place=place, workspaces=workspaces, artifacts=artifacts)
    door = None
    if controller is not None:
        parts = DoorParts(
            settings=settings,
            engine=engine,
            controller=controller,
            store=store,
            workspaces=workspaces,
            place=place,
            data_dir=data_dir,
            metrics=metrics,
        )
        door = open_door(
            parts,
            scheduler=lambda: scheduler,
            withdraw=lambda build_id: service.withdraw(build_id),  # noqa: PLW0108 - it is made below
            health=lambda: service.health(),  # noqa: PLW0108 - the same
        )

    def work(held: Held) -> CommandWork | AgentWork:
        if isinstance(held.build.request, BuildRequest):
            return commands(held)
        if door is None:
            raise InvalidSettings("this service has no controller any more; set jenkins.url to go on with its agents")
        return door.agents(held)

    def finished(build: Build) -> None:
        metrics.finished(build)
        if door is not None:
            door.provisioner.finished(build)

    runner = Runner(
        engine=engine,
        store=store,
        logs=logs,
        workspaces=workspaces,
        preparation=Preparation(engine=engine, workspaces=workspaces, sources=sources, settings=settings.sources),
        settings=settings,
        place=place,
        starts=anyio.CapacityLimiter(settings.queue.starts),
        work=work,
    )
    scheduler = Scheduler(
        store=store,
        runner=runner,
        engine_up=lambda: watch.up,
        changes=changes,
        on_finished=finished,
        read_host=partial(read_host, data_dir),
    )
    watch = EngineWatch(engine, info, on_return=scheduler.wake)
    reaper = Reaper(
        engine=engine,
        store=store,
        logs=logs,
        workspaces=workspaces,
        sources=sources,
        artifacts=artifacts,
        metrics=metrics,
        retention=settings.retention,
        service_id=place.service_id,
        running=lambda: scheduler.running,
    )
    service = Service(
        settings=settings,
        place=place,
        data_dir=data_dir,
        store=store,
        logs=logs,
        sources=sources,
        artifacts=artifacts,
        scheduler=scheduler,
        reaper=reaper,
        watch=watch,
        changes=changes,
        metrics=metrics,
        door=door,
    )
    return service
