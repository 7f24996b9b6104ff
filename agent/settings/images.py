"""The settings of image builds."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from agent.fields import ByteSize, Duration  # noqa: TC001 - pydantic needs them at run time
from agent.settings.section import GIB, MIB, Age, ImagePatterns, Section, not_below_default


class ImageSettings(Section):
    """Images that builds ask to be built and pushed: who runs their steps, and what these get."""

    builder: Literal["engine"] = Field("engine", description="What builds them: the engine's own BuildKit.")
    buildx: Path | None = Field(
        None, description="The program `docker-buildx`; found on PATH or among Docker's plugins if not given."
    )
    slots: int = Field(
        default_factory=lambda: min(1000, os.cpu_count() or 1),
        ge=1,
        le=1000,
        description="Image builds at once. Default: one per CPU.",
    )
    allowed_bases: ImagePatterns = Field(
        ["**"],
        json_schema_extra={"allowed": "a list of patterns; in a variable, with commas between them"},
        description="Patterns, as in `builds.allowed_images`, of the images that a Dockerfile may use: in `FROM`, "
        "`COPY --from` and `RUN --mount`. What the caller built itself may be used besides. `# syntax` can only name "
        "`docker/dockerfile` and `docker/dockerfile-upstream`, and only if they are allowed, too.",
    )
    allow_remote_add: bool = Field(
        False,
        description="Whether `ADD` may fetch from http, https and git URLs. The engine fetches them, from where it is: "
        "it reaches what the engine's host reaches, also on loopback.",
    )
    pull: Literal["missing", "always"] = Field(
        "missing", description="`always` asks the registry for newer base images whatever the request says."
    )
    cpus: float = Field(2, ge=0.01, le=1024, description="CPUs of the `RUN` steps, if the request names none.")
    max_cpus: float = Field(64, ge=0.01, le=1024, description="Most CPUs; never more than the host has.")
    memory: ByteSize = Field(2 * GIB, ge=6 * MIB, description="Memory of the `RUN` steps, if the request names none.")
    max_memory: ByteSize = Field(256 * GIB, description="Most memory; never more than the host has.")
    cgroup_parent: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9@:._/-]+$",
        max_length=255,
        json_schema_extra={"allowed": "the name of a slice, such as `sibling-images.slice`"},
        description="Where `RUN` steps are put on an engine with the systemd cgroup driver: a slice whose limits hold "
        "for all of them together.",
    )
    timeout: Duration = Field(3600, description="How long an image build may take, if the request does not say.")
    max_timeout: Duration = Field(24 * 3600, description="Longest timeout.")
    max_size: ByteSize = Field(20 * GIB, description="Largest image, unpacked.")
    max_output: ByteSize = Field(10 * GIB, description="Largest file system that is kept as the artifact `image.tar`.")
    keep: Age = Field(7 * 24 * 3600, description="How long the engine keeps an image that a build made.")

    @field_validator("max_cpus", "max_memory", "max_timeout")
    @classmethod
    def _not_below_default(cls, most: float, info: ValidationInfo) -> float:
        return not_below_default("images", cls, most, info)
