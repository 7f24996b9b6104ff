"""Building a service from its settings and an engine: what is there is found, what is missing is made."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING

import anyio
import stamina
from cryptography.fernet import Fernet

from agent import build_sockets, busybox, data_volume, toolkit
from agent.admission import Admission
from agent.agents.door import DoorParts, open_door
from agent.agents.resident import Residents
from agent.build_log.logs import BuildLogs
from agent.build_sockets import BuildSockets
from agent.build_store import BuildStore
from agent.builds import Lane
from agent.changes import Changes
from agent.command_work import Commands
from agent.docker_access.access import DockerAccess
from agent.docker_access.daemons import Daemons
from agent.docker_access.mirror import Mirror
from agent.docker_access.scoped import Gates
from agent.engine import LABEL_ROLE, LABEL_SERVICE
from agent.engine_watch import EngineWatch
from agent.errors import EngineUnavailable, InvalidSettings
from agent.files.artifacts import Artifacts
from agent.files.private_file import keep_private
from agent.files.sources import Sources
from agent.files.workspace import Workspaces
from agent.gate.upstream import Upstream
from agent.host import read_host
from agent.images.buildx import Buildx, find_buildx
from agent.images.cells import Cells
from agent.images.context import Contexts
from agent.images.hooks import Hooks
from agent.images.keeper import Keeper
from agent.images.pusher import Pusher
from agent.images.runner import ImageRunner
from agent.metrics import Metrics
from agent.policy import Place
from agent.preparation import Preparation
from agent.reaper import Reaper
from agent.registries import Registries
from agent.requests import BuildRequest
from agent.runner import Runner
from agent.scheduler import Scheduler
from agent.service import Service
from agent.threads import allow_threads, in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from agent.agents.agent_work import AgentWork
    from agent.build_sockets import SocketServer
    from agent.builds import Build
    from agent.command_work import CommandWork
    from agent.controller import Controller
    from agent.engine import Engine, EngineInfo
    from agent.settings import Settings
    from agent.work import Held

ENGINE_WAIT = 30.0  # seconds that a start waits for an engine that is just starting too


async def assemble(
    settings: Settings,
    engine: Engine,
    controller: Controller | None = None,
    *,
    client: bytes,
    socket_server: SocketServer | None = None,
) -> Service:
    """A service that is ready to run, with a controller or without.

    `client` is the zipapp that containers get, `socket_server` what their sockets lead to; without one they lead to
    nothing.

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
        volume_dir=await engine.ensure_volume(volume.name, {}),
        toolkit=await in_thread(toolkit.install, volume.dir, busybox.find_static_busybox(), client),
        network=settings.engine.network,
        runtime=settings.engine.runtime,
        cpus=info.cpus,
        memory=info.memory,
        agent_network=settings.jenkins.network,
    )
    return await in_thread(_wire, settings, engine, info, place, volume.dir, controller, socket_server)


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
    socket_server: SocketServer | None,
) -> Service:
    key = keep_private(data_dir / "secret-key", lambda: Fernet.generate_key().decode())
    store = BuildStore(data_dir / "builds.db", key)
    store.exchanges.end_all_but({each.issuer for each in settings.oidc.values()})
    logs = BuildLogs(data_dir / "logs")
    workspaces = Workspaces(data_dir / "workspaces")
    sources = Sources(data_dir / "sources", settings.sources)
    artifacts = Artifacts(data_dir / "artifacts", settings.builds.max_artifacts, settings.builds.max_artifact_files)
    sockets = BuildSockets(folder=data_dir / build_sockets.FOLDER, server=socket_server)
    registries = Registries(settings.registries)
    cells = Cells(
        engine=engine,
        residents=Residents(engine=engine, place=place),
        service_id=place.service_id,
        driver=info.cgroup_driver,
        parent=settings.images.cgroup_parent,
        toolkit=place.toolkit,
        pids=settings.builds.max_pids,
    )
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

    upstream = Upstream.at(settings.engine.host)
    daemons = Daemons(
        engine=engine,
        upstream=upstream,
        registries=registries,
        settings=settings.daemon,
        place=place,
        folder=data_dir / "daemons",
        mirror=Mirror(upstream=upstream, settings=settings.daemon, place=place),
    )
    access = DockerAccess(
        engine=engine,
        sockets=sockets.folder,
        gates=Gates(
            folder=data_dir / "gates",
            upstream=upstream,
            workspaces=workspaces,
            settings=settings,
            place=place,
            daemons=daemons,
        ),
        daemons=daemons,
        workspaces=workspaces,
        store=store,
        settings=settings,
        metrics=metrics,
    )
    runner = Runner(
        engine=engine,
        store=store,
        logs=logs,
        workspaces=workspaces,
        sockets=sockets,
        docker=access,
        preparation=Preparation(
            engine=engine, workspaces=workspaces, sources=sources, settings=settings.sources, registries=registries
        ),
        settings=settings,
        place=place,
        starts=anyio.CapacityLimiter(settings.queue.starts),
        work=work,
    )
    image_runner = ImageRunner(
        engine=engine,
        store=store,
        logs=logs,
        workspaces=workspaces,
        artifacts=artifacts,
        contexts=Contexts(
            folder=data_dir / "contexts", workspaces=workspaces, sources=sources, settings=settings.sources
        ),
        builder=Buildx(
            folder=data_dir / "buildx",
            program=find_buildx(settings.images.buildx),
            host=settings.engine.host,
            node=place.service_id,
            registries=registries,
        ),
        cells=cells,
        pusher=Pusher(engine=engine, registries=registries),
        hooks=Hooks(
            tables=settings.hooks,
            store=store,
            registries=registries,
            max_queued=settings.queue.max_queued + settings.images.slots,
            finished=lambda build_id, seconds: service.finished(build_id, seconds),  # noqa: PLW0108 - it is made below
            cancel=lambda build_id: service.cancel(build_id),  # noqa: PLW0108 - the same
            wake=lambda: scheduler.wake(),  # noqa: PLW0108 - the same
        ),
        settings=settings,
        place=place,
    )
    scheduler = Scheduler(
        store=store,
        runner_of=lambda build: image_runner if build.lane is Lane.IMAGES else runner,
        settings=settings,
        place=place,
        cancel=lambda build_id: service.cancel(build_id),  # noqa: PLW0108 - it is made below
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
        sockets=sockets,
        docker=access,
        sources=sources,
        artifacts=artifacts,
        metrics=metrics,
        cancel=lambda build_id: service.cancel(build_id),  # noqa: PLW0108 - it is made below
        retention=settings.retention,
        keeper=Keeper(
            engine=engine, store=store, metrics=metrics, service_id=place.service_id, keep=settings.images.keep
        ),
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
        sockets=sockets,
        docker=access,
        cells=cells,
        admission=Admission(settings=settings, place=place, store=store, sources=sources, cells=cells),
        artifacts=artifacts,
        scheduler=scheduler,
        reaper=reaper,
        watch=watch,
        changes=changes,
        metrics=metrics,
        door=door,
    )
    return service
