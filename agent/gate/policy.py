"""What the policy of a gate says: which images, which limits, which workspace. Pure.

It is a file for `sibling gate`; everything that it does not name is refused.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from agent import references
from agent.errors import InvalidRequest
from agent.fields import ByteSize, Frozen, Text
from agent.settings.section import ImagePattern, Subnet  # noqa: TC001 - pydantic needs them


def _absolute(path: str) -> str:
    if not path.startswith("/") or path == "/" or any(part in ("", ".", "..") for part in path[1:].split("/")):
        raise ValueError(f"{path!r} is no plain absolute path below /; write it as /workspace")
    return path


AbsolutePath = Annotated[Text, AfterValidator(_absolute)]


class Workspace(Frozen):
    """The files of the build, at `path` in its container: a volume that is the build's alone.

    With a `subpath` it must be the build's all the same: the engine follows links to other folders of the volume.
    """

    path: AbsolutePath
    volume: str
    subpath: str = ""


class Limits(Frozen):
    """The most that what the build makes may take: of each container, and of how many things there may be at once."""

    memory: ByteSize = 2 * 1024**3  # bytes
    cpus: float = Field(2.0, gt=0, le=4096)
    pids: int = Field(2048, gt=0, le=2**22)
    log: ByteSize = 64 * 1024**2  # bytes that the engine keeps of a container's output
    containers: int = Field(50, gt=0)
    networks: int = Field(10, gt=0)
    volumes: int = Field(50, gt=0)
    execs: int = Field(1000, gt=0)  # in the life of the gate
    connections: int = Field(200, gt=0)  # at the same time, each with one request
    tags: int = Field(500, gt=0)
    disk: ByteSize = 20 * 1024**3  # bytes that containers and volumes may have, all together
    image_bytes: ByteSize = 20 * 1024**3  # that images of the build may have, all together


class GatePolicy(Frozen):
    """A whole policy: patterns of images that may be used as the engine has them, pulled, and pushed.

    Of `subnets` a build may choose the addresses of its networks.
    """

    images: tuple[ImagePattern, ...] = ()
    pull: tuple[ImagePattern, ...] = ()
    push: tuple[ImagePattern, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    limits: Limits = Limits()

    def may_use(self, reference: references.Reference) -> bool:
        """Whether the image is one of those that every build may start containers of."""
        return any(references.matches(reference, pattern) for pattern in (*self.images, *self.pull))

    def by_name(self) -> list[str]:
        """The images that may be used and that it names one by one, in full."""
        return [str(references.parse(each)) for each in (*self.images, *self.pull) if "*" not in each]

    def may_pull(self, reference: references.Reference) -> bool:
        """Whether the build may bring the image to the engine."""
        return any(references.matches(reference, pattern) for pattern in self.pull)

    def may_push(self, reference: references.Reference) -> bool:
        """Whether the build may send an image to that name."""
        return any(references.matches(reference, pattern) for pattern in self.push)

    def may_log_in(self, domain: str) -> bool:
        """Whether there are images of the registry that may be pulled or pushed."""
        return any(references.covers(pattern, domain) for pattern in (*self.pull, *self.push))


_MOST_TEXT = 1000  # characters of a refusal, which is in logs: what the build sent may be in it


class Refused(InvalidRequest):
    """The gate does not let it through: 403. `rule` is a name in the table of docs/docker-access.md."""

    def __init__(self, rule: str, message: str) -> None:
        plain = "".join(each if each.isprintable() else "?" for each in message[:_MOST_TEXT])  # it is a line of a log
        super().__init__(f"Sibling's gate refuses this ({rule}): {plain}")
        self.rule = rule
