"""What the container of a build's own daemon is made of. Pure.

It is not privileged. Tried with Engine 26.1.5, cgroup v1 and overlay2 on ext4: with these capabilities, its filters off
and a control group namespace of its own, dockerd runs, builds and publishes ports. It is no border for an attacker all
the same: see docs/docker-access.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent import toolkit
from agent.engine import LABEL_BUILD, LABEL_ROLE, LABEL_SERVICE

if TYPE_CHECKING:
    from agent.policy import Place
    from agent.settings.daemon import DaemonSettings

ROLE = "docker"
ROLE_CACHE = "docker-cache"
LABEL_DOMAIN = "sibling.docker.domain"
FOLDER = "daemons"  # of the data volume
NAME = "docker.sock"
_TARGET = "/run/sibling-docker"
_DATA = "/var/lib/docker"
# Of a builder's steps, in the network namespace of the build, which later gets networks that the engine chooses. It
# chooses none of these, which are for tests of network devices (RFC 2544).
_BUILDER_NETWORK = "198.18.0.1/24"
_CAPABILITIES = (
    # What dockerd and runc need to set up a container.
    *("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "NET_RAW", "SETFCAP", "SETPCAP"),
    # What images are unpacked with, and containers have by default.
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"),
)
# The image may be any with dockerd, so nothing of its own start is used. Control groups are read-only in a container
# without privileges. With version 2 none that has processes can have children with limits, so they move, as in moby's
# script `dind`. /proc/sys is read-only, too; a second one is there for a moment. Containers of an earlier build are
# removed once the daemon answers; none of them must start before.
_SCRIPT = f"""\
set -e
groups=/sys/fs/cgroup
if [ -e $groups/cgroup.controllers ]; then
    mount -o remount,rw $groups 2>/dev/null || :
    mkdir -p $groups/init
    while read -r process; do echo "$process" >$groups/init/cgroup.procs || :; done <$groups/cgroup.procs
    sed -e 's/ / +/g' -e 's/^/+/' <$groups/cgroup.controllers >$groups/cgroup.subtree_control
else
    while read -r _ at type _; do [ "$type" != cgroup ] || mount -o remount,rw,bind "$at"; done </proc/mounts
fi
if [ "$(cat /proc/sys/net/ipv4/ip_forward)" != 1 ]; then
    mkdir -p /run/proc
    mount -t proc proc /run/proc
    echo 1 >/run/proc/sys/net/ipv4/ip_forward
    umount /run/proc
fi
for file in {_DATA}/containers/*/hostconfig.json; do
    [ ! -e "$file" ] || sed -i 's/"RestartPolicy":{{"Name":"[a-z-]*"/"RestartPolicy":{{"Name":"no"/' "$file"
done
rm -f {_TARGET}/{NAME}
printf %s "$SIBLING_DAEMON" >/run/daemon.json
export DOCKER_ALLOW_IPV6_ON_IPV4_INTERFACE=1
exec dockerd --config-file /run/daemon.json
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sidecar:
    """Whose daemon it is, and what for."""

    build_id: str
    container: str  # the build's own, by its name
    domain: str  # whose builds may find what it leaves
    builder: bool  # it builds images, and that is all that the build has of it

    @property
    def name(self) -> str:
        """The name of its container."""
        return daemon_name(self.container)


def daemon_name(build_container: str) -> str:
    """The name of the container of a build's daemon."""
    return f"{build_container}-docker"


def body(sidecar: Sidecar, cache: str | None, settings: DaemonSettings, place: Place, image: str) -> dict[str, Any]:
    """The body of `POST /containers/create`. `cache` is the volume that it keeps its data in; else they go with it."""
    mounts = [
        _part(place, f"{FOLDER}/{sidecar.build_id}", _TARGET),
        {"Type": "volume", "Target": _DATA, **({"Source": cache} if cache else {})},
    ]
    if not sidecar.builder:
        mounts += [_part(place, f"workspaces/{sidecar.build_id}", toolkit.WORKSPACE)]
    return {
        "Image": image,
        "Entrypoint": ["sh", "-c", _SCRIPT],
        "Cmd": [],
        "User": "0:0",
        "WorkingDir": "/",
        "Env": [f"SIBLING_DAEMON={json.dumps(_config(sidecar, settings))}"],
        "Labels": {LABEL_SERVICE: place.service_id, LABEL_BUILD: sidecar.build_id, LABEL_ROLE: ROLE},
        "HostConfig": {
            "NetworkMode": f"container:{sidecar.container}",
            "Init": True,
            "Memory": min(settings.memory, place.memory),
            "MemorySwap": min(settings.memory, place.memory),
            "NanoCpus": int(min(settings.cpus, place.cpus) * 1e9),
            "PidsLimit": settings.pids,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "8m", "max-file": "1"}},
            "Mounts": mounts,
            **_rights(settings),
        },
    }


def _rights(settings: DaemonSettings) -> dict[str, Any]:
    if settings.runtime is not None:
        return {"Runtime": settings.runtime}
    return {
        "CapDrop": ["ALL"],
        "CapAdd": list(_CAPABILITIES),
        "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"],
        "CgroupnsMode": "private",
    }


def _config(sidecar: Sidecar, settings: DaemonSettings) -> dict[str, Any]:
    """The daemon's own daemon.json (docs.docker.com, dockerd, "Daemon configuration file")."""
    builder: dict[str, Any] = {"gc": {"enabled": True, "defaultKeepStorage": f"{settings.cache_size // 2}B"}}
    network = {}
    if sidecar.builder:
        builder["entitlements"] = {"network-host": False, "security-insecure": False}
        network = {"bip": _BUILDER_NETWORK}
    return {
        "hosts": [f"unix://{_TARGET}/{NAME}"],
        "group": "root",
        "data-root": _DATA,
        "shutdown-timeout": 1,
        "builder": builder,
        **network,
        **({"registry-mirrors": [settings.mirror]} if settings.mirror else {}),
    }


def _part(place: Place, subpath: str, target: str) -> dict[str, Any]:
    options = {"NoCopy": True, "Subpath": subpath}
    return {"Type": "volume", "Source": place.volume, "Target": target, "VolumeOptions": options}
