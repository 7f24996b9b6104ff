"""Names and ids that a build gives -> its own things by their full ids. What is another's is not there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent import references
from agent.errors import InvalidRequest, NotFound
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.gate.journal import Journal, Kind
    from agent.gate.policy import GatePolicy
    from agent.gate.upstream import Upstream

LABEL = "sibling.gate"  # of all that a gate made: the build's id. For people and for removal; the journal says whose.
_WHOLE_ID = len("sha256:") + 64
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")


class Own:
    """Looks them up on the engine. Every method raises NotFound with the words that the engine has for a miss."""

    def __init__(
        self,
        upstream: Upstream,
        journal: Journal,
        prefix: str,
        policy: Callable[[], GatePolicy],
        bring: Callable[[], Awaitable[None]],
    ) -> None:
        """`bring` sees that what was built is there."""
        self._upstream = upstream
        self._journal = journal
        self._prefix = prefix
        self._policy = policy
        self._bring = bring
        self.digests: dict[
            str, list[str]
        ] = {}  # names with a digest by which registries have images of the build, in full
        self.used: set[str] = set()  # names of images that are there for all, in full

    def container_id(self, name: str) -> str:
        """The full id of one of the build's containers: by that, by its name, or by the beginning of its id."""
        found = self.known_id(name)
        if found is None:
            raise NotFound(f"No such container: {name}")
        return found

    def known_id(self, name: str) -> str | None:
        """The same, or None."""
        return self._id("container", name.removeprefix("/"))

    async def container(self, name: str) -> dict[str, Any]:
        """What the engine says of it."""
        answer = await self._upstream.ask("GET", f"/containers/{self.container_id(name)}/json")
        if not answer.ok:
            raise NotFound(f"No such container: {name}")
        found: dict[str, Any] = answer.json()
        return found

    def network_id(self, name: str) -> str | None:
        """The full id of one of the build's networks: by that, by its name, or by the beginning of its id."""
        return self._id("network", name)

    async def network(self, name: str) -> dict[str, Any]:
        """What the engine says of one of the build's networks."""
        found = self.network_id(name)
        answer = await self._upstream.ask("GET", f"/networks/{found}") if found else None
        if answer is None or not answer.ok:
            raise NotFound(f"network {name} not found")
        network: dict[str, Any] = answer.json()
        return network

    def volume_name(self, name: str) -> str | None:
        """The engine's name of one of the build's volumes: one that it named, or one that has the engine's own name."""
        return next((each for each in (self._prefix + name, name) if self._journal.has("volume", each)), None)

    async def volume(self, name: str) -> dict[str, Any]:
        """What the engine says of one of the build's volumes."""
        own = self.volume_name(name)
        answer = await self._upstream.ask("GET", f"/volumes/{own}") if own else None
        if answer is None or not answer.ok:
            raise NotFound(f"get {name}: no such volume")
        found: dict[str, Any] = answer.json()
        return found

    def _id(self, kind: Kind, name: str) -> str | None:
        """Of things with the same name the newest, since those that the engine removed by itself may still be known."""
        things = self._journal.all(kind)
        if name in things:
            return name
        newest = reversed(things.items())
        named = next((each for each, known in newest if known == name), None)
        begun = [each for each in things if name and each.startswith(name)]
        return named or (begun[0] if len(begun) == 1 else None)

    async def image(self, name: str) -> dict[str, Any]:
        """An image that the build may use: its own by name or id, or one that policy names.

        An own name goes before the same one of the engine. An id says nothing of what it is of: it is one of policy's
        only if one of the names that the engine has for it is.
        """
        missing = NotFound(f"No such image: {name}")
        await self._bring()
        asked: str | None = self._asked(name)
        if is_id(name) and asked == name:
            asked = await self._full_id(name)
        if asked is None:
            raise missing
        answer = await self._upstream.ask("GET", f"/images/{asked}/json")
        if not answer.ok:
            raise missing
        found: dict[str, Any] = answer.json()
        named = (
            not _ID.fullmatch(name) and self.allows(name) and not references.is_lent(name, found.get("RepoTags") or ())
        )
        if not (named or self._journal.has("image", found["Id"]) or self.shared_names(found)):
            raise missing
        if named and self.tag_of(name) is None:
            self.used.add(str(references.parse(name)))
        return self.shown(found)

    def note_digest(self, image: str, name: str) -> None:
        """Have a name with a digest as one by which a registry has an image of the build."""
        known = self.digests.setdefault(image, [])
        if name not in known:
            known.append(name)

    def shown(self, image: dict[str, Any]) -> dict[str, Any]:
        """The same with the names that it has for this build, and no others."""
        own = [familiar(tag) for tag, image_id in self._journal.all("tag").items() if image_id == image["Id"]]
        theirs = [name for name in self.shared_names(image) if name not in own]
        theirs_too = [name for name in image.get("RepoDigests") or () if self.allows(name)]
        digests = sorted({*map(familiar, self.digests.get(image["Id"], ())), *theirs_too})
        driver = {"GraphDriver": {**image["GraphDriver"], "Data": None}} if "GraphDriver" in image else {}
        return {**image, **driver, "RepoTags": [*own, *theirs], "RepoDigests": digests}

    def shared_names(self, image: dict[str, Any]) -> list[str]:
        """Those by which policy lets builds use it."""
        names = image.get("RepoTags") or ()
        return [each for each in names if self.allows(each) and not references.is_lent(each, names)]

    def allows(self, name: str) -> bool:
        """Whether policy lets builds use images of that name. Private names are of images of others, or of ours."""
        try:
            reference = references.parse(name)
        except InvalidRequest:
            return False
        return reference.domain != references.PRIVATE and self._policy().may_use(reference)

    def tag_of(self, name: str) -> str | None:
        """The full reference of an own tag that the name is; None if it is no such."""
        full = full_name(name)
        return full if full is not None and self._journal.has("tag", full) else None

    async def tags_of(self, repository: str) -> list[str]:
        """All names of it that the build may use, own ones first; none if more than a repository is named, or an id."""
        full = full_name(repository)
        if full is None or is_id(repository) or not full.endswith(":latest") or repository.endswith(":latest"):
            return []
        images = (await self._upstream.ask("GET", "/images/json")).done().json()
        names = [*self._journal.all("tag"), *(full_name(each) for image in images for each in self.shared_names(image))]
        return [each for each in dict.fromkeys(names) if each and each.rpartition(":")[0] == full.rpartition(":")[0]]

    async def _full_id(self, beginning: str) -> str | None:
        """The one id that begins so, of images that the build may use: what others have must not be told by it."""
        whole = f"sha256:{beginning.removeprefix('sha256:')}"
        if len(whole) == _WHOLE_ID:
            return whole
        found = [each for each in self._journal.all("image") if each.startswith(whole)]
        if not found:
            there = (await self._upstream.ask("GET", "/images/json")).done().json()
            found = [each["Id"] for each in there if each["Id"].startswith(whole) and self.shared_names(each)]
        return found[0] if len(found) == 1 else None

    def _asked(self, name: str) -> str:
        """What to ask the engine for: an id, an own tag's image, or the full reference. Raises NotFound."""
        if _ID.fullmatch(name) and not self._journal.has("tag", f"docker.io/library/{name}:latest"):
            return name
        try:
            full = str(references.parse(name))
        except InvalidRequest as error:
            raise NotFound(f"No such image: {name}") from error
        return self._journal.all("tag").get(full, full)


def full_name(name: str) -> str | None:
    """The full reference; None if no image can be called by that."""
    try:
        return str(references.parse(name))
    except InvalidRequest:
        return None


def is_id(name: str) -> bool:
    """Whether it can be an image's id, or the beginning of one."""
    return _ID.fullmatch(name) is not None


def new_tag(name: str, tag: str = "") -> str:
    """The full reference of a tag that is to be made. Raises InvalidRequest, Refused if it looks like an id."""
    reference = references.parse(f"{name}:{tag}" if tag else name)
    if reference.digest is not None:
        raise InvalidRequest(f"{name!r} names a digest; a tag cannot")
    if reference.domain == references.PRIVATE:
        raise Refused("image-name", f"{references.PRIVATE} is for Sibling itself; take another name")
    if re.fullmatch(r"[0-9a-f]{4,}", familiar(reference.name)):
        raise Refused("image-name", f"{name!r} looks like an image id")
    return str(reference)


def repository(name: str) -> str:
    """A name without its tag, or its digest."""
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]


def familiar(reference: str) -> str:
    """As Docker shows it: without docker.io and library/ (distribution/reference, FamiliarString)."""
    return reference.removeprefix("docker.io/").removeprefix("library/")
