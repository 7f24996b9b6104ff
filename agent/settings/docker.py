"""The settings of what builds may do with Docker through a gate."""

from __future__ import annotations

from pydantic import Field

from agent.fields import ByteSize  # noqa: TC001 - pydantic needs it at run time
from agent.settings.section import GIB, MIB, ImagePatterns, Section, Subnets


class DockerSettings(Section):
    """What each build with `docker = "scoped"` gets through its Docker socket. See docker-access.md."""

    images: ImagePatterns | None = Field(
        None,
        json_schema_extra={"allowed": "a list of patterns; in a variable, with commas between them"},
        description="Patterns of images that its containers may be made of, and that it may pull; "
        "`builds.allowed_images` if not given. Images that it made itself may be used besides.",
    )
    subnets: Subnets = Field(
        [],
        json_schema_extra={"allowed": "a list of networks, such as `10.200.0.0/16`; in a variable, with commas"},
        description="Where its networks may have addresses of its choice; none that the host itself reaches.",
    )
    cpus: float = Field(2, ge=0.01, le=1024, description="Most CPUs of each container, and what one gets by default.")
    memory: ByteSize = Field(
        2 * GIB, ge=6 * MIB, description="Most memory of each container, and what one gets by default."
    )
    pids: int = Field(2048, ge=1, description="Most processes and threads of each container.")
    log: ByteSize = Field(64 * MIB, description="What the engine keeps of each container's output.")
    containers: int = Field(50, ge=1, description="Containers at once, running or not.")
    networks: int = Field(10, ge=1, description="Networks at once.")
    volumes: int = Field(50, ge=1, description="Volumes at once.")
    execs: int = Field(1000, ge=1, description="Commands by `docker exec`, in all.")
    connections: int = Field(200, ge=1, description="Connections to the socket at once.")
    tags: int = Field(500, ge=1, description="Names that it may give to images.")
    disk: ByteSize = Field(
        20 * GIB, description="What its containers and volumes may have on the disk; containers end if they have more."
    )
    image_bytes: ByteSize = Field(
        20 * GIB, description="What images that it made may have together, before it makes another one."
    )
