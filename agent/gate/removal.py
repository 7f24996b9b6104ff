"""The removal of all that was made through a gate, until nothing is left.

That is what its journal has, and what it was about to make when it was killed: found by a label that nobody else knew.
"""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from typing import TYPE_CHECKING

from agent import references
from agent.errors import EngineError
from agent.gate.own import LABEL

if TYPE_CHECKING:
    from agent.gate.journal import Journal, Kind
    from agent.gate.upstream import Answer, Upstream

_PRIVATE = f"{references.PRIVATE}/"
LABEL_INTENT = "sibling.gate.intent"
_NO_ANSWER = "the engine does not answer; restart it if that stays so"
_PAUSE, _STOP_GRACE = 0.5, 5  # seconds
_DEADLINES = (60.0, 5.0, 5.0, 5.0, 5.0)  # seconds for a removal, each time that it is asked for
_CUT = 270.0  # seconds longer than others, for what took the engine longer than we waited for it
_SETTLED = 30.0  # seconds, after which the engine makes nothing more of what it was asked for
# In this order: a network or a volume that a container has cannot go.
_PATHS: dict[Kind, tuple[str, dict[str, str]]] = {
    "builder": ("/containers", {"force": "1", "v": "1"}),
    "container": ("/containers", {"force": "1", "v": "1"}),
    "network": ("/networks", {}),
    "volume": ("/volumes", {"force": "1"}),
    "workspace": ("/volumes", {"force": "1"}),  # its files stay where they are
}


def intention(kind: Kind, *, cut: bool = False) -> str:
    """What the journal says of something of that kind which is about to be made, now.

    If we were `cut` off while the engine made it, that has taken it a minute already, and may go on for as long.
    """
    return f"{kind} {time.time() + (_CUT if cut else 0):.0f}"


async def remove_all(upstream: Upstream, journal: Journal, build: str, *, settle: bool) -> None:
    """Remove it; what is gone already is no fault. Raises EngineError if something stays.

    What was about to be made may be there later than the one who asked for it was killed: if it is to `settle`, that is
    waited for.
    """
    left: list[str] = []
    for again, deadline in enumerate(_DEADLINES):
        await asyncio.sleep(again * _PAUSE)  # someone else's removal of the same may be under way
        await _find_intended(upstream, journal, settle=settle)
        left = [*await _remove_things(upstream, journal, deadline), *await _remove_images(upstream, journal, deadline)]
        if not left:
            return
    raise EngineError(f"of what build {build} made with Docker, this could not be removed: {'; '.join(left)}")


async def forget_gone(upstream: Upstream, journal: Journal, build: str) -> None:
    """Take out of the journal the containers that the engine removed by itself (AutoRemove), and their volumes."""
    kinds: tuple[Kind, ...] = ("container", "volume")
    known = {kind: journal.all(kind).keys() for kind in kinds}  # before the look: others come meanwhile
    filters = json.dumps({"label": [f"{LABEL}={build}"]})
    containers = (await upstream.ask("GET", "/containers/json", {"all": "1", "filters": filters})).done().json()
    volumes = (await upstream.ask("GET", "/volumes")).done().json()["Volumes"] or ()
    there = {"container": {each["Id"] for each in containers}, "volume": {each["Name"] for each in volumes}}
    for kind in kinds:
        for name in known[kind] - there[kind]:
            journal.remove(kind, name)


async def _find_intended(upstream: Upstream, journal: Journal, *, settle: bool) -> None:
    """Have in the journal what was made of what was intended; wait for what may still come if it is to `settle`."""
    while True:
        for intent, intended in journal.all("intent").items():
            kind, _, since = intended.partition(" ")
            if await _has_come(upstream, journal, intent, kind) or time.time() - float(since or 0) > _SETTLED:
                journal.remove("intent", intent)
        if not settle or not journal.count("intent"):
            return
        await asyncio.sleep(_PAUSE)


async def _has_come(upstream: Upstream, journal: Journal, intent: str, kind: str) -> bool:
    filters = {"filters": json.dumps({"label": [f"{LABEL_INTENT}={intent}"]})}
    if kind == "container":
        found = (await upstream.ask("GET", "/containers/json", {**filters, "all": "1"})).done().json()
        for each in found:
            journal.add("container", each["Id"])
    elif kind == "network":
        found = (await upstream.ask("GET", "/networks", filters)).done().json()
        for each in found:
            journal.add("network", each["Id"])
    elif kind == "volume":
        found = (await upstream.ask("GET", "/volumes", filters)).done().json()["Volumes"] or ()
        for each in found:
            journal.add("volume", each["Name"])
    elif kind == "builder":  # a container by its name, as it has no label
        there = await upstream.ask("GET", f"/containers/{intent}/json")
        found = [intent] if there.ok else []
        for each in found:
            journal.add("builder", each)
    else:  # an image, by the private name that it was to get
        image = await upstream.ask("GET", f"/images/{intent}/json")
        found = [image.json()["Id"]] if image.ok else []
        for each in found:
            await keep_image(upstream, journal, each, intent)
    return bool(found)


async def keep_image(upstream: Upstream, journal: Journal, image: str, anchor: str) -> None:
    """Have an image, which is on the engine by the private name, as the build's."""
    if journal.has("image", image):  # made again: one private name is enough
        await upstream.ask("DELETE", f"/images/{anchor}", {"noprune": "1"})
    else:
        journal.add("image", image, anchor)


async def _remove_things(upstream: Upstream, journal: Journal, deadline: float) -> list[str]:
    left: list[str | None] = []
    for kind in _PATHS:
        left += await asyncio.gather(*(_remove(upstream, journal, kind, name, deadline) for name in journal.all(kind)))
    return [each for each in left if each is not None]


async def _remove(upstream: Upstream, journal: Journal, kind: Kind, name: str, deadline: float) -> str | None:
    """Returns why it is still there, or None. The engine may wait for ever for one that it has locked."""
    path, query = _PATHS[kind]
    try:
        async with asyncio.timeout(deadline):
            if kind == "builder":  # it lets go of its data whole
                await upstream.ask("POST", f"{path}/{name}/stop", {"t": str(_STOP_GRACE)})
            answer = await upstream.ask("DELETE", f"{path}/{name}", query)
    except TimeoutError:
        return f"{kind} {name}: {_NO_ANSWER}"
    if answer.ok or answer.status == 404:
        journal.remove(kind, name)
        return None
    return f"{kind} {name}: {answer.message()}"


async def _remove_images(upstream: Upstream, journal: Journal, deadline: float) -> list[str]:
    """Returns what is still there. The engine removes none while it has any container locked, of whomever it is."""
    try:
        async with asyncio.timeout(deadline):
            await end_pushes(upstream, journal, *journal.all("push"))
            await end_pulls(upstream, journal, *journal.all("pull"))
    except TimeoutError:
        return [f"names of images: {_NO_ANSWER}"]
    for tag in journal.all("tag"):
        journal.remove("tag", tag)
    left = []
    for image, anchor in journal.all("image").items():
        why = await _remove_image(upstream, image, anchor, deadline)
        if why is None:
            journal.remove("image", image)
        else:
            left.append(f"image {image}: {why}")
            if why == _NO_ANSWER:
                break
    return left


async def _remove_image(upstream: Upstream, image: str, anchor: str, deadline: float) -> str | None:
    try:
        async with asyncio.timeout(deadline):
            answer = await upstream.ask("DELETE", f"/images/{anchor}")
            if answer.status == 409 and anchor != image:  # the last name of one that a container of others has
                answer = await untag(upstream, image, anchor)
    except TimeoutError:
        return _NO_ANSWER
    return None if answer.ok or answer.status == 404 else answer.message()


async def end_pushes(upstream: Upstream, journal: Journal, *tags: str) -> None:
    """Take names off the engine that images have for a push, unless they are another's by now, and their marks."""
    for tag in tags:
        if (image := journal.all("push").get(tag)) is None:
            continue
        for name in (
            tag,
            references.push_mark(tag),
        ):  # in this order: without the mark, the name would be there for others
            there = await upstream.ask("GET", f"/images/{name}/json")
            if there.ok and there.json()["Id"] == image:
                await upstream.ask("DELETE", f"/images/{name}", {"noprune": "1"})
        journal.remove("push", tag)


async def end_pulls(upstream: Upstream, journal: Journal, *names: str) -> list[dict[str, str]]:
    """Take names with a digest off the engine, which a build's pulls left there, unless others have the image as well.

    Returns what went with the last name of an image.
    """
    gone: list[dict[str, str]] = []
    for name in filter(partial(journal.has, "pull"), names):
        there = await upstream.ask("GET", f"/images/{name}/json")
        if there.ok and set(there.json()["RepoTags"]) <= {*journal.all("image").values()}:
            answer = await upstream.ask("DELETE", f"/images/{name}")
            gone += [each for each in answer.json() if "Deleted" in each] if answer.ok else []
        journal.remove("pull", name)
    return gone


async def untag(upstream: Upstream, image: str, anchor: str) -> Answer:
    """Take the private name off an image that stays, since others have a container of it.

    The engine takes no last name off such an image but with force, and then it removes the image if the container does
    not run. So the name goes to another image first, which keeps its own.
    """
    found = (await upstream.ask("GET", "/images/json")).done().json()
    named = [each["Id"] for each in found if any(not tag.startswith(_PRIVATE) for tag in each["RepoTags"] or ())]
    other = next((each for each in named if each != image), None)
    if other is not None:
        repository, _, tag = anchor.rpartition(":")
        await upstream.ask("POST", f"/images/{other}/tag", {"repo": repository, "tag": tag})
    return await upstream.ask("DELETE", f"/images/{anchor}", {"noprune": "1"})
