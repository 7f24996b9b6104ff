"""The data volume, and where the service sees it. Builds are given parts of it by name, so it must be a named volume.

On the engine's host the service sees the volume at its mount point; in a container at `data.dir`, where it was mounted.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.engine import LABEL_ROLE
from agent.errors import InvalidSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.engine import Engine, MountPoint
    from agent.settings import DataSettings

SERVICE_ROLE = "service"  # the value of LABEL_ROLE on our image, and so on the service's own container


@dataclass(frozen=True, kw_only=True, slots=True)
class DataVolume:
    """The volume's name on the engine, and the folder at which this process sees it."""

    name: str
    dir: Path


async def locate(engine: Engine, settings: DataSettings) -> DataVolume:
    """Find the volume, or make it if the service runs on the host.

    Raises InvalidSettings if this process cannot use the volume, and the engine's errors.
    """
    if settings.dir is not None:
        container = await _own_container(engine, settings.dir)
        if container is not None:
            name = _volume_at(settings.dir, await engine.mounts(container), settings.volume)
            return DataVolume(name=name, dir=settings.dir)
    mount_point = Path(await engine.ensure_volume(settings.volume, {LABEL_ROLE: "data"}))
    _check_seen(mount_point, settings)
    return DataVolume(name=settings.volume, dir=mount_point)


async def _own_container(engine: Engine, folder: Path) -> str | None:
    """The id of the container that we run in, or None on a host: the one that sees the file which we just wrote.

    A host name is no proof: it is the host's own with `--network host`, and anything with `--hostname`.
    """
    try:
        with _mark(folder) as mark:
            for container in await engine.list({LABEL_ROLE: SERVICE_ROLE}):
                if container.state == "running" and await engine.read_file(container.id, str(mark)) is not None:
                    return container.id
    except OSError as error:
        raise InvalidSettings(
            f"The service cannot write to its data folder {folder}: {error.strerror}. Mount the data volume there, and "
            "let the service's user write to it."
        ) from error
    return None


@contextmanager
def _mark(folder: Path) -> Iterator[Path]:
    """A file in the folder for a while, of a name that is nowhere else. Raises OSError if it cannot be written."""
    mark = folder / f".sibling-{secrets.token_hex(16)}"
    mark.touch(mode=0o600)
    try:
        yield mark
    finally:
        mark.unlink()


def _volume_at(folder: Path, mounts: Sequence[MountPoint], volume: str) -> str:
    """The name of the volume that is mounted at the folder, and not above it."""
    mount = next((mount for mount in mounts if Path(mount.target) == folder), None)
    if mount is not None and mount.type == "volume":
        return mount.source
    if mount is not None:
        raise InvalidSettings(
            f"The data folder {folder} is a {mount.type} mount {mount.source}, and builds can only be given parts of a "
            f"named volume. Start the service's container with `-v {volume}:{folder}` instead."
        )
    elsewhere = [mount.target for mount in mounts if mount.type == "volume" and mount.source == volume]
    cure = f"Set data.dir to {elsewhere[0]}." if elsewhere else f"Start it with `-v {volume}:{folder}`."
    raise InvalidSettings(f"No volume is mounted at the data folder {folder} of the service's container. {cure}")


def _check_seen(mount_point: Path, settings: DataSettings) -> None:
    """Raise InvalidSettings if the engine's folder is not one that we can use."""
    if settings.dir not in {None, mount_point}:
        raise InvalidSettings(
            f"data.dir is {settings.dir}, but the engine has the volume {settings.volume} at {mount_point}. Leave "
            "data.dir out; or, if the service runs in a container, start that with `--label "
            f"{LABEL_ROLE}={SERVICE_ROLE} -v {settings.volume}:{settings.dir}`."
        )
    try:
        with _mark(mount_point):
            pass
    except OSError as error:
        raise InvalidSettings(
            f"The engine has the volume {settings.volume} at {mount_point}, where this process cannot write: "
            f"{error.strerror}. Run the service as root on the engine's own host; or in a container there, with the "
            "volume mounted and data.dir set to where."
        ) from error
