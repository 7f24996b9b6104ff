"""Whether the service's user may do what the service does: tried at the start and now and then, and told in /readyz."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from agent.errors import ControllerRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.agents.view import View
    from agent.controller import Permission

_log = structlog.get_logger()
WHILE_MISSING = 30.0  # seconds until they are tried again, since each try makes a node and removes it
WHILE_FINE = 3600.0


@dataclass(kw_only=True)
class Permissions:
    """Tries them one by one with a node of its own."""

    view: View
    service_id: str
    _missing: bool = False

    async def turn(self) -> None:
        """Try them, then wait. Raises ControllerRefused that names what is missing, and other ControllerErrors."""
        if self._missing:
            await asyncio.sleep(WHILE_MISSING)
        self._missing = False
        if self.view.sight is None:
            return await asyncio.sleep(1)
        missing = lacking(await self.view.controller.probe(probe_name(self.service_id)))
        if missing:
            self._missing = True
            raise ControllerRefused(missing)
        _log.info("the controller grants all permissions that can be tried", url=self.view.controller.url)
        return await asyncio.sleep(WHILE_FINE)


def probe_name(service_id: str) -> str:
    """The name of the node that they are tried with: the service's own, so that one left by a crash is found again."""
    return f"sibling-probe-{service_id[:16]}"


def lacking(permissions: Sequence[Permission]) -> str | None:
    """A sentence for the admin that names what is missing, if anything is."""
    missing = [permission for permission in permissions if permission.ok is False]
    if not missing:
        return None
    names = ", ".join(permission.name for permission in missing)
    return f"The service's user lacks {names} on the controller: {missing[0].detail}. docs/jenkins.md has the list."
