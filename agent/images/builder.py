"""What a builder is asked for, whatever builds: one plan in, one image on the engine out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from agent.builds import BaseImage, ImageStep
    from agent.requests import ImageBuildRequest
    from agent.stop import Stop

Write = Callable[[bytes], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildPlan:
    """All that a builder needs; it decides nothing.

    `reference` is what the engine gets the image as. `context` and `dockerfile` are nobody else's to change meanwhile.
    `source_policy` is BuildKit's (see `agent.bases`). With `export_to` the files go there as a tar, and no image is
    kept.
    """

    reference: str
    request: ImageBuildRequest
    context: Path | None
    dockerfile: Path | None
    secrets: Mapping[str, str] = field(repr=False)
    source_policy: Mapping[str, Any]
    cgroup_parent: str | None
    export_to: Path | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What came of it, also of one that failed: `error` is then the builder's last word, and None otherwise."""

    steps: tuple[ImageStep, ...]
    bases: tuple[BaseImage, ...]
    error: str | None


class Builder(Protocol):
    """Builds images on the engine. More than one build may be under way."""

    async def build(self, plan: BuildPlan, write: Write, stop: Stop) -> Built:
        """Build it; `write` is called in another thread with whole lines of the log.

        Raises Unavailable if there is no such builder here, and Stopped once it has ended after somebody asked for it.
        """
