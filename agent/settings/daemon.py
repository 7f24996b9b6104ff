"""The settings of Docker daemons for one build each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.fields import ByteSize, Duration, Text  # noqa: TC001 - pydantic needs them at run time
from agent.settings.section import GIB, MIB, Section


class DaemonSettings(Section):
    """The daemon of each build with `docker = "isolated"`, and the builder of `"scoped"` ones. See docker-access.md."""

    image: Annotated[Text, Field(max_length=512)] | None = Field(
        None,
        json_schema_extra={"allowed": "an image, such as `docker:28-dind`"},
        description="Image with `dockerd` and a shell that the daemons run in. "
        "Without one, `isolated` is not to be had, and `docker build` not in `scoped`.",
    )
    cpus: float = Field(2, ge=0.01, le=1024, description="CPUs of a daemon and all its containers together.")
    memory: ByteSize = Field(4 * GIB, ge=64 * MIB, description="Memory of them, the same.")
    pids: int = Field(8192, ge=64, description="Processes and threads of them, the same.")
    runtime: str | None = Field(
        None,
        description="OCI runtime for daemons that needs no privileges for them: `sysbox-runc`, where the host has it.",
    )
    mirror: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+/?$",
        json_schema_extra={"allowed": "an http or https URL without a path"},
        description="Registry that daemons ask for images of docker.io first, such as a pull-through cache.",
    )
    mirror_image: Annotated[Text, Field(max_length=512)] | None = Field(
        None,
        json_schema_extra={"allowed": "an image of a registry, such as `registry:2`"},
        description="Image of a pull-through cache that the service runs for daemons; "
        "it asks `daemon.mirror`, or docker.io itself.",
    )
    mirror_port: int = Field(
        5010, ge=1024, le=65535, description="Port of that cache, at the gateway of `engine.network`."
    )
    volumes: int = Field(
        4, ge=0, le=100, description="Volumes with images and build cache that are kept for each folder of jobs."
    )
    cache_size: ByteSize = Field(
        20 * GIB, description="Size above which such a volume is removed after a build. Build cache is kept below it."
    )
    disk: ByteSize = Field(40 * GIB, description="What a daemon may have on the disk; it is ended if it has more.")
    start_timeout: Duration = Field(60, description="How long a daemon may take until it answers.")
