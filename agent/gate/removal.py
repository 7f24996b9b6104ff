"""The removal of all that was made through a gate, until nothing is left.

That is what its journal has, and what it was about to make when it was killed: found by a label that nobody else knew.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from agent.errors import EngineError

if TYPE_CHECKING:
    from agent.gate.journal import Journal, Kind
    from agent.gate.upstream import Upstream

LABEL_INTENT = "sibling.gate.intent"
_ROUNDS, _PAUSE, _STOP_GRACE = 5, 0.5, 5  # the last two in seconds
# In this order: a network or a volume that a container has cannot go.
_PATHS: dict[Kind, tuple[str, dict[str, str]]] = {
    "builder": ("/containers", {"force": "1", "v": "1"}),
    "container": ("/containers", {"force": "1", "v": "1"}),
    "network": ("/networks", {}),
    "volume": ("/volumes", {"force": "1"}),
    "workspace": ("/volumes", {"force": "1"}),  # its files stay where they are
}


async def remove_all(upstream: Upstream, journal: Journal, build: str) -> None:
    """Remove it; what is gone already is no fault. Raises EngineError if something stays."""
    left: list[str] = []
    for again in range(_ROUNDS):
        await asyncio.sleep(again * _PAUSE)  # someone else's removal of the same may be under way
        await _find_intended(upstream, journal)
        left = [*await _remove_things(upstream, journal), *await _remove_images(upstream, journal)]
        if not left:
            return
    raise EngineError(f"of what build {build} made with Docker, this could not be removed: {'; '.join(left)}")


async def forget_gone(upstream: Upstream, journal: Journal) -> None:
    """Take out of the journal the containers that the engine removed by itself (AutoRemove), and their volumes."""
    containers = (await upstream.ask("GET", "/containers/json", {"all": "1"})).done().json()
    volumes = (await upstream.ask("GET", "/volumes")).done().json()["Volumes"] or ()
    there: dict[Kind, set[str]] = {
        "container": {each["Id"] for each in containers},
        "volume": {each["Name"] for each in volumes},
    }
    for kind, names in there.items():
        for name in journal.all(kind).keys() - names:
            journal.remove(kind, name)


async def _find_intended(upstream: Upstream, journal: Journal) -> None:
    for intent, kind in journal.all("intent").items():
        filters = {"filters": json.dumps({"label": [f"{LABEL_INTENT}={intent}"]})}
        if kind == "container":
            for found in (await upstream.ask("GET", "/containers/json", {**filters, "all": "1"})).done().json():
                journal.add("container", found["Id"])
        elif kind == "network":
            for found in (await upstream.ask("GET", "/networks", filters)).done().json():
                journal.add("network", found["Id"])
        elif kind == "volume":
            for found in (await upstream.ask("GET", "/volumes", filters)).done().json()["Volumes"] or ():
                journal.add("volume", found["Name"])
        else:  # an image, by the private name that it was to get
            await upstream.ask("DELETE", f"/images/{intent}")
        journal.remove("intent", intent)


async def _remove_things(upstream: Upstream, journal: Journal) -> list[str]:
    left = []
    for kind, (path, query) in _PATHS.items():
        for name in journal.all(kind):
            if kind == "builder":  # it lets go of its data whole
                await upstream.ask("POST", f"{path}/{name}/stop", {"t": str(_STOP_GRACE)})
            answer = await upstream.ask("DELETE", f"{path}/{name}", query)
            if answer.ok or answer.status == 404:
                journal.remove(kind, name)
            else:
                left.append(f"{kind} {name}: {answer.message()}")
    return left


async def _remove_images(upstream: Upstream, journal: Journal) -> list[str]:
    left = []
    for tag in journal.all("tag"):
        journal.remove("tag", tag)
    for image, anchor in journal.all("image").items():
        answer = await upstream.ask("DELETE", f"/images/{anchor}")
        if answer.ok or answer.status == 404:
            journal.remove("image", image)
        else:
            left.append(f"image {image}: {answer.message()}")
    return left
