"""The names of images: the private one that the engine has, and those that a caller gave, which are nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import references
from agent.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from agent.build_store import BuildStore
    from agent.builds import Build

_MOST = 200  # images of one caller that are looked through, the newest first


def private(service_id: str, build_id: str) -> str:
    """The name that the engine has the image of this image build by; services on one engine have none in common."""
    return f"{folder(service_id)}/{build_id}:latest"


def folder(service_id: str) -> str:
    """What all private names of a service begin with."""
    return f"{references.PRIVATE}/{service_id[:12]}"


def is_pushed(build: Build, reference: str) -> bool:
    """Whether a registry has the image of this build by that name, as far as the build itself knows."""
    return build.image is not None and reference in {each.reference for each in build.image.pushed}


def tag(text: str) -> str:
    """The full reference that an image can be tagged with. Raises InvalidRequest."""
    reference = references.parse(text)
    if reference.digest is not None:
        raise InvalidRequest(f"{text!r} names a digest, and a tag cannot; write it as registry.example/team/app:1.0")
    if reference.domain == references.PRIVATE:
        raise InvalidRequest(f"{text!r}: {references.PRIVATE} is for Sibling itself; take another name")
    return str(reference)


class OwnImages:
    """What one caller's builds made, by the names that they gave; of two with the same name the newer one."""

    def __init__(self, store: BuildStore, owner: str) -> None:
        self._store = store
        self._owner = owner

    def by_tag(self) -> dict[str, str]:
        """Every name, and the id of the build that made what it means now."""
        return self._store.image_tags(self._owner, _MOST)

    def get(self, reference: str) -> Build | None:
        """The build that made what a full reference means now, if one of these did."""
        return next(iter(self._store.images(created_by=self._owner, tag=reference, limit=1)), None)

    def find(self, name: str) -> Build:
        """The build that made it. Raises InvalidRequest, NotFound."""
        wanted = tag(name)
        found = self.get(wanted)
        if found is None:
            raise NotFound(
                f"There is no image {wanted} of yours here. Build it first, with `sibling image build -t {wanted}`; "
                "images of others cannot be pushed or used by this name."
            )
        return found
