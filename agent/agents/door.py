"""The controller's door, wired: everything that a service with a controller has beside one without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.agents.agent_work import Agents
from agent.agents.beginnings import Beginnings
from agent.agents.catalog import Catalog, with_labels
from agent.agents.outfit import Outfit
from agent.agents.permissions import Permissions
from agent.agents.provisioner import Provisioner
from agent.agents.reconciler import Reconciler
from agent.agents.registration import Registration
from agent.agents.resident import Residents
from agent.agents.training import FOLDER, Training
from agent.agents.view import View
from agent.files.workspace import Workspaces
from agent.toolkit import java

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from pathlib import Path

    from agent.agents.registration import Health
    from agent.build_store import BuildStore
    from agent.controller import Controller
    from agent.engine import Engine
    from agent.metrics import Metrics
    from agent.policy import Place
    from agent.scheduler import Scheduler
    from agent.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Door:
    """The parts that a service runs and asks; `agents` gives agents' work to the runner."""

    view: View
    agents: Agents
    provisioner: Provisioner
    registration: Registration
    reconciler: Reconciler
    outfit: Outfit
    beginnings: Beginnings
    permissions: Permissions

    def turns(self) -> Mapping[str, Callable[[], Coroutine[Any, Any, None]]]:
        """The loops, by name."""
        return {
            "provisioner": self.provisioner.turn,
            "registration": self.registration.turn,
            "heartbeat": self.registration.beat,
            "reconciler": self.reconciler.turn,
            "outfit": self.outfit.turn,
            "beginnings": self.beginnings.turn,
            "permissions": self.permissions.turn,
        }

    async def close(self) -> None:
        """Let go of the controller; agents go on without us."""
        await self.registration.close()
        self.beginnings.close()
        await self.view.controller.close()


@dataclass(frozen=True, kw_only=True)
class DoorParts:
    """What of the rest of the service the door needs."""

    settings: Settings
    engine: Engine
    controller: Controller
    store: BuildStore
    workspaces: Workspaces
    place: Place
    data_dir: Path
    metrics: Metrics


def open_door(
    parts: DoorParts,
    *,
    scheduler: Callable[[], Scheduler],
    withdraw: Callable[[str], Awaitable[object]],
    health: Callable[[], Awaitable[Health]],
) -> Door:
    """Wire it. The functions are called once the service runs. Raises InvalidSettings if there is no Java to be had."""
    settings, jenkins, data_dir = parts.settings, parts.settings.jenkins, parts.data_dir
    view = View(controller=parts.controller, poll=jenkins.poll)
    residents = Residents(engine=parts.engine, place=parts.place)
    training = Training(
        residents=residents, controller=parts.controller, settings=jenkins, workspaces=Workspaces(data_dir / FOLDER)
    )
    outfit = Outfit(
        data_dir=data_dir,
        base=parts.place.toolkit,
        java=java.find_java(jenkins.java),
        view=view,
        training=training,
    )
    provisioner = Provisioner(
        settings=settings,
        view=view,
        catalog=Catalog(
            templates=with_labels(settings.resolved_templates()),
            heap=jenkins.heap,
            grants=settings.grants,
            daemon_image=settings.daemon.image,
        ),
        store=parts.store,
        scheduler=scheduler,
        metrics=parts.metrics,
        service_id=parts.place.service_id,
        withdraw=withdraw,
        registered=lambda: registration.registered,
    )
    registration = Registration(
        settings=jenkins, view=view, outfit=outfit, residents=residents, data_dir=data_dir, health=health
    )
    beginnings = Beginnings()
    return Door(
        view=view,
        agents=Agents(
            settings=settings,
            place=parts.place,
            engine=parts.engine,
            workspaces=parts.workspaces,
            controller=parts.controller,
            view=view,
            outfit=outfit,
            beginnings=beginnings,
            metrics=parts.metrics,
            unwanted=lambda: provisioner.unwanted,
        ),
        provisioner=provisioner,
        registration=registration,
        reconciler=Reconciler(
            view=view,
            store=parts.store,
            service_id=parts.place.service_id,
            own_name=registration.name,
            keep_failed=jenkins.keep_failed,
            training=lambda: training.node,
        ),
        outfit=outfit,
        beginnings=beginnings,
        permissions=Permissions(view=view, service_id=parts.place.service_id),
    )
