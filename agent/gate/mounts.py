"""Files in a container: the workspace, the build's volumes, the gate's own socket, memory; and nothing else. Pure."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import InvalidRequest
from agent.gate import names
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.gate.bodies import HostConfigBody, MountBody
    from agent.gate.policy import Workspace

_MOST = 100  # of a container: the engine tells them in lists, and has some of them on the host
_OF_VOLUMES = "z"  # the mode of one where none is asked for (moby/moby, linux_parser.go)
_SOCKETS = {"/var/run/docker.sock", "/run/docker.sock"}
_BIND_OPTIONS = {"ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent", "rprivate", "default"}
_TMPFS_FLAGS = {
    *("ro", "rw", "exec", "noexec", "nosuid", "nodev", "atime", "noatime", "relatime", "strictatime", "sync", "async"),
}
_TMPFS_VALUES = re.compile(
    r"(?:size=[0-9]{1,15}[kmgKMG%]?|mode=[01]?[0-7]{1,3}|[ug]id=[0-9]{1,10}|nr_inodes=[0-9]{1,9}[kmKM]?)"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One mount: of a volume by its name, of a part of the workspace, or of the gate's socket; else it is anonymous."""

    target: str
    read_only: bool = False
    volume: str | None = None
    inside: str | None = None  # the path below the workspace, "" for all of it
    socket: bool = False
    is_made: bool = False  # a folder of the workspace that is not there
    no_copy: bool = False
    subpath: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)  # of a volume that is not there
    driver_options: Mapping[str, str] = field(default_factory=dict)  # the same
    tmpfs: Mapping[str, int] | None = None
    mode: str = ""  # as the engine tells it of what was asked for

    def source(self, workspace: Workspace | None) -> str:
        """The path in the build; empty if it is none."""
        if self.inside is None or workspace is None:
            return ""
        return f"{workspace.path}/{self.inside}" if self.inside else workspace.path

    @property
    def is_anonymous(self) -> bool:
        """Whether it is a new volume."""
        return self.volume is None and self.inside is None and self.tmpfs is None and not self.socket


@dataclass(slots=True)
class Mounts:
    """All of a container's, checked together. Raises Refused, InvalidRequest."""

    workspace: Workspace | None
    wanted: list[Wanted] = field(default_factory=list)
    tmpfs: dict[str, str] = field(default_factory=dict)

    def take(self, host: HostConfigBody, anonymous: Iterable[str]) -> None:
        """Those that a request asks for."""
        for bind in host.Binds:
            self.wanted.append(self._bind(bind))
        for mount in host.Mounts:
            self.wanted.append(self._mount(mount))
        in_memory = [(_target(target), _tmpfs(options)) for target, options in host.Tmpfs.items()]
        taken = {*(each.target for each in self.wanted), *(target for target, _ in in_memory)}
        self.wanted += [Wanted(target) for target in map(_target, anonymous) if target not in taken]
        self.tmpfs = dict(in_memory)
        targets = [*(each.target for each in self.wanted), *(target for target, _ in in_memory)]
        if len(set(targets)) < len(targets):
            raise InvalidRequest("two mounts have the same target")
        self.see_few(0)

    def see_few(self, more: int) -> None:
        """Raise Refused if there are too many with so many more, which it has from its image and other containers."""
        if len(self.wanted) + len(self.tmpfs) + more > _MOST:
            raise Refused("field", f"HostConfig.Mounts: more than {_MOST} mounts are not for builds")

    @property
    def has_workspace(self) -> bool:
        """Whether one is of the workspace."""
        return any(each.inside is not None for each in self.wanted)

    def anonymous(self, image: Iterable[str]) -> int:
        """How many volumes without a name there will be, with those that the image asks for."""
        taken = {each.target for each in self.wanted} | self.tmpfs.keys()
        theirs = {_plain(each) if each.startswith("/") else each for each in image}  # as the engine tells them apart
        return sum(each.is_anonymous for each in self.wanted) + len(theirs - taken)

    def _bind(self, text: str) -> Wanted:
        source, _, rest = text.partition(":")
        if not rest:
            return Wanted(_target(source))
        target, _, options = rest.partition(":")
        given = set(filter(None, options.split(",")))
        if unknown := sorted(given - _BIND_OPTIONS):
            raise Refused("bind", f"HostConfig.Binds: the option {unknown[0]!r} of {text!r} is not for builds")
        found = self._source(source, "HostConfig.Binds")
        mode = options or (_OF_VOLUMES if "volume" in found else "")
        return Wanted(_target(target), "ro" in given, is_made=True, no_copy="nocopy" in given, mode=mode, **found)

    def _mount(self, mount: MountBody) -> Wanted:
        target, options = _target(mount.Target), mount.VolumeOptions
        if mount.Type == "tmpfs" and not mount.Source:
            sizes = mount.TmpfsOptions
            return Wanted(target, mount.ReadOnly, tmpfs=sizes.model_dump(exclude_defaults=True) if sizes else {})
        if mount.Type == "volume":
            labels = options.Labels if options else {}
            if any(name.lower().startswith("sibling.") for name in labels):
                raise Refused("labels", "labels that begin with `sibling.` are the gate's")
            driver = options.DriverConfig if options else None
            if driver is not None and driver.Name not in ("", "local"):
                raise Refused("field", "VolumeOptions.DriverConfig: drivers are not for builds")
            driver_options = driver.Options if driver else {}
            if driver_options and not mount.Source:
                raise Refused("field", "VolumeOptions.DriverConfig: a volume with options needs a name")
            subpath = options.Subpath if options else ""
            if subpath and (subpath.startswith("/") or ".." in subpath.split("/")):
                raise Refused("bind", f"VolumeOptions.Subpath {subpath!r} leads out of the volume")
            no_copy = bool(options and options.NoCopy)
            if not mount.Source:
                return Wanted(target, mount.ReadOnly, no_copy=no_copy, mode=_OF_VOLUMES)
            volume = names.check("volume", mount.Source)
            return Wanted(
                target,
                mount.ReadOnly,
                volume=volume,
                no_copy=no_copy,
                subpath=subpath,
                labels=labels,
                driver_options=driver_options,
                mode=_OF_VOLUMES,
            )
        if mount.Type == "bind" and mount.Source.startswith("/"):
            if mount.BindOptions and mount.BindOptions.Propagation not in ("", "rprivate"):
                raise Refused("bind", "BindOptions.Propagation is not for builds")
            is_made = bool(mount.BindOptions and mount.BindOptions.CreateMountpoint)
            return Wanted(target, mount.ReadOnly, is_made=is_made, **self._source(mount.Source, "HostConfig.Mounts"))
        raise Refused(
            "bind", f"HostConfig.Mounts: a mount of type {mount.Type!r} of {mount.Source!r} is not for builds"
        )

    def _source(self, source: str, where: str) -> dict[str, Any]:
        if not source.startswith("/"):
            return {"volume": names.check("volume", source)}
        plain = _plain(source)
        if plain in _SOCKETS:
            return {"socket": True}
        inside = self.workspace.path if self.workspace else None
        if inside is None or not (plain == inside or plain.startswith(f"{inside}/")):
            most = f"paths in {inside}" if inside else "volumes"
            raise Refused("bind", f"{where}: {source!r} is a path of the host; a build can mount {most} alone")
        return {"inside": plain[len(inside) + 1 :]}


def _plain(path: str) -> str:
    """Without `.`, `..` and doubled slashes; normpath keeps two at the start."""
    return f"/{posixpath.normpath(path).lstrip('/')}"


def _target(target: str) -> str:
    plain = _plain(target)
    if not target.startswith("/") or plain == "/" or ".." in target.split("/"):
        raise InvalidRequest(f"the mount's target {target!r} is not an absolute path below /")
    return plain


def _tmpfs(options: str) -> str:
    for option in filter(None, options.split(",")):
        if option not in _TMPFS_FLAGS and not _TMPFS_VALUES.fullmatch(option):
            raise Refused("field", f"HostConfig.Tmpfs: the option {option!r} is not for builds")
    return options
