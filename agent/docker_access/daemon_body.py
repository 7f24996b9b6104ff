"""What the container of a build's own daemon is made of. Pure.

It is not privileged. Tried with Engine 26.1.5, cgroup v1 and overlay2 on ext4: with these capabilities, its filters off
and a control group namespace of its own, dockerd runs, builds and publishes ports. It is no border for an attacker all
the same: see docs/docker-access.md.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.settings.daemon import DaemonSettings

ROLE = "docker"
ROLE_CACHE = "docker-cache"
LABEL_DOMAIN = "sibling.docker.domain"
NAME = "docker.sock"
SOCKET = "/run/sibling-docker"  # the folder of its socket, for it
DATA = "/var/lib/docker"
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
for file in {DATA}/containers/*/hostconfig.json; do
    [ ! -e "$file" ] || sed -i 's/"RestartPolicy":{{"Name":"[a-z-]*"/"RestartPolicy":{{"Name":"no"/' "$file"
done
rm -f {SOCKET}/{NAME}
printf %s "$SIBLING_DAEMON" >/run/daemon.json
export DOCKER_ALLOW_IPV6_ON_IPV4_INTERFACE=1
exec dockerd --config-file /run/daemon.json
"""


def body(
    image: str,
    settings: DaemonSettings,
    *,
    builder: bool,
    network: str,
    labels: dict[str, str],
    mounts: list[dict[str, Any]],
) -> dict[str, Any]:
    """The body of `POST /containers/create`. `builder` tells that it builds images, and that this is all it is for.

    Among the mounts are those of the folder for its socket, at `SOCKET`, and of its `data`.
    """
    return {
        "Image": image,
        "Entrypoint": ["sh", "-c", _SCRIPT],
        "Cmd": [],
        "User": "0:0",
        "WorkingDir": "/",
        "Env": [f"SIBLING_DAEMON={json.dumps(_config(settings, builder=builder))}"],
        "Labels": labels,
        "HostConfig": {
            "NetworkMode": network,
            "Init": True,
            "Memory": settings.memory,
            "MemorySwap": settings.memory,
            "NanoCpus": int(settings.cpus * 1e9),
            "PidsLimit": settings.pids,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "8m", "max-file": "1"}},
            "Mounts": mounts,
            **_rights(settings),
        },
    }


def data(cache: str | None) -> dict[str, Any]:
    """The mount of what it keeps: a volume of that name, or one that goes with it."""
    return {"Type": "volume", "Target": DATA, **({"Source": cache} if cache else {})}


def _rights(settings: DaemonSettings) -> dict[str, Any]:
    if settings.runtime is not None:
        return {"Runtime": settings.runtime}
    return {
        "CapDrop": ["ALL"],
        "CapAdd": list(_CAPABILITIES),
        "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"],
        "CgroupnsMode": "private",
    }


def _config(settings: DaemonSettings, *, builder: bool) -> dict[str, Any]:
    """The daemon's own daemon.json (docs.docker.com, dockerd, "Daemon configuration file")."""
    building: dict[str, Any] = {"gc": {"enabled": True, "defaultKeepStorage": f"{settings.cache_size // 2}B"}}
    network = {}
    if builder:
        building["entitlements"] = {"network-host": False, "security-insecure": False}
        network = {"bip": _BUILDER_NETWORK}
    return {
        "hosts": [f"unix://{SOCKET}/{NAME}"],
        "group": "root",
        "data-root": DATA,
        "shutdown-timeout": 1,
        "builder": building,
        **network,
        **_mirrored(settings.mirror),
    }


def _mirrored(mirror: str | None) -> dict[str, Any]:
    if mirror is None:
        return {}
    # What the mirror's URL says is enough for a pull; BuildKit speaks https unless it is told this, too.
    scheme, _, host = mirror.rstrip("/").partition("://")
    return {"registry-mirrors": [mirror], **({"insecure-registries": [host]} if scheme == "http" else {})}
