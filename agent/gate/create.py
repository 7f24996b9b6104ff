"""A container that a build asks for -> the one that the engine is asked for. Pure.

`plan` checks all that can be checked, and says which names are to be looked up on the engine; with what they are there,
`Plan.body` is the whole request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import InvalidRequest
from agent.gate import health_checks, ports, resources, strict_json
from agent.gate.bodies import HostConfigBody, VolumeBody
from agent.gate.mounts import Mounts, Wanted
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from agent.gate.bodies import ContainerBody, Endpoint
    from agent.gate.policy import GatePolicy, Workspace

# What every container has by default (moby/moby, oci/caps/defaults.go); to ask for these gives nothing more. They are
# sent all the same: beside CapDrop ALL they are those that stay.
CAPABILITIES = frozenset(
    (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
        *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)
_DEFAULT_NETWORKS = {"", "default", "bridge"}
_SYSCTL = re.compile(r"net\.[a-z0-9_./-]+|kernel\.(?:shm|msg)[a-z_]+|kernel\.sem|fs\.mqueue\.[a-z_]+")
_MOST_LABELS = 64 * 1024  # bytes: the engine tells them in lists, to all
_MOST_COMMAND = 128 * 1024  # the same; no argument can be longer (Linux, MAX_ARG_STRLEN)
_SHORT_ID = 12  # characters
_KEPT = (
    *("Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"),
    *("Env", "Cmd", "Entrypoint", "WorkingDir", "NetworkDisabled", "MacAddress", "StopSignal", "StopTimeout", "Shell"),
    *("ArgsEscaped", "Healthcheck"),
)
_HOST_KEPT = (
    *("AutoRemove", "Init", "ReadonlyRootfs", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd", "CapDrop"),
    *("OomScoreAdj", "Sysctls"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """What the names of a plan are on the engine; the addresses where ports are published, and the image's settings."""

    image: str
    name: str  # the container's own, which its networks are to know it by; empty if it has none yet
    containers: Mapping[str, str]
    networks: Mapping[str, str]
    volumes: Mapping[str, str]
    network: str
    gateways: Sequence[str]
    free_ports: Iterator[str]
    socket: Mapping[str, Any] | None
    labels: Mapping[str, str]
    inherited: Mapping[str, Any]  # the image's Config, which the engine merges into the request
    new_volumes: Collection[str]  # those that no container has had
    paths: Mapping[str, str]  # of the workspace, and where links lead from them


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A request that is right by itself."""

    image: str
    containers: frozenset[str]
    networks: frozenset[str]
    volumes: Mapping[str, VolumeBody]  # if they are made
    folders: frozenset[str]  # of the workspace, which are made if they are not there
    sources: frozenset[str]  # the same, and files, which are not
    own_socket: bool
    request: ContainerBody
    mounts: Mounts
    limits: Mapping[str, Any]

    def body(self, resolved: Resolved) -> dict[str, Any]:
        """The whole body for the engine."""
        request, host = self.request, self.request.HostConfig
        made = {name: getattr(request, name) for name in _KEPT}
        config = {name: _plain(value) for name, value in made.items() if value is not None and value != ""}
        return {
            **config,
            **health_checks.merged(config.get("Healthcheck") or {}, resolved.inherited.get("Healthcheck") or {}),
            "Image": resolved.image,
            "ExposedPorts": {port: {} for port in request.ExposedPorts},
            "Volumes": {each: {} for each in request.Volumes},  # there is a mount for each, and no other volume is made
            "Labels": {**_undressed(resolved.inherited), **request.Labels, **resolved.labels},
            "HostConfig": {
                **{
                    name: getattr(host, name)
                    for name in _HOST_KEPT
                    if getattr(host, name) not in (None, "", False, [], {})
                },
                **({"ExtraHosts": _hosts(host.ExtraHosts, resolved)} if host.ExtraHosts else {}),
                **self.limits,
                **self._modes(resolved),
                "Privileged": False,
                "PublishAllPorts": False,
                "PortBindings": ports.published(request, resolved.inherited, resolved.gateways, resolved.free_ports),
                "SecurityOpt": sorted({"no-new-privileges" for _ in _NO_NEW_PRIVILEGES.intersection(host.SecurityOpt)}),
                **({"CapAdd": sorted({f"CAP_{_capability(each)}" for each in host.CapAdd})} if host.CapAdd else {}),
                "Mounts": [_mount(each, self.mounts.workspace, resolved) for each in self.mounts.wanted],
                "Tmpfs": self.mounts.tmpfs,
                "VolumesFrom": [_with_id(each, resolved) for each in host.VolumesFrom],
                "CgroupnsMode": "private",  # with cgroup v1 the engine's default is the host's
            },
            "NetworkingConfig": {"EndpointsConfig": self._endpoints(resolved)},
        }

    def _modes(self, resolved: Resolved) -> dict[str, str]:
        host = self.request.HostConfig
        network = host.NetworkMode
        if network in _DEFAULT_NETWORKS:
            mode = resolved.network
        elif network == "none" or network.startswith("container:"):
            mode = _joined(network, resolved)
        else:
            mode = resolved.networks[network]
        return {
            "NetworkMode": mode,
            "PidMode": _joined(host.PidMode, resolved),
            "IpcMode": _joined(host.IpcMode, resolved) or "private",
        }

    def _endpoints(self, resolved: Resolved) -> dict[str, Any]:
        config = self.request.NetworkingConfig
        given = config.EndpointsConfig if config else {}
        made = {
            resolved.network if name in _DEFAULT_NETWORKS else resolved.networks[name]: endpoint(
                each, resolved.containers
            )
            for name, each in given.items()
        }
        if links := self.request.HostConfig.Links:
            # On networks other than the engine's own bridge, the engine passes over those of HostConfig without a word
            # (moby/moby, registerLinks), and the container's network here is never that bridge.
            own = made.setdefault(self._modes(resolved)["NetworkMode"], {})
            own["Links"] = [*own.get("Links", ()), *(_link(each, resolved.containers) for each in links)]
        if resolved.name and not self._is_alone:
            made.setdefault(self._modes(resolved)["NetworkMode"], {})
            made = {network: known_as(each, resolved.name) for network, each in made.items()}
        return made

    @property
    def volumes_from(self) -> list[str]:
        """The containers of which it has all mounts."""
        return [each.partition(":")[0] for each in self.request.HostConfig.VolumesFrom]

    @property
    def is_on_bridge(self) -> bool:
        """Whether its network is the one of containers that name none."""
        return self.request.HostConfig.NetworkMode in _DEFAULT_NETWORKS

    @property
    def _is_alone(self) -> bool:
        return _is_alone(self.request.HostConfig)


def plan(body: ContainerBody, policy: GatePolicy, workspace: Workspace | None) -> Plan:
    """Check it. Raises Refused, InvalidRequest."""
    host = body.HostConfig
    if not body.Image:
        raise InvalidRequest("Image: no image was named")
    if body.Mounts and host == HostConfigBody():
        raise Refused("field", "Mounts is not for builds, but as HostConfig.Mounts")
    _check_host(host)
    check_labels(body.Labels)
    if strict_json.told([body.Entrypoint, body.Cmd]) > _MOST_COMMAND:
        raise Refused("field", f"Cmd: a command of more than {_MOST_COMMAND} bytes is not for builds")
    if body.Healthcheck is not None:
        health_checks.check(body.Healthcheck.model_dump())
    mounts = Mounts(workspace)
    mounts.take(host, body.Volumes)
    joined = [
        mode.partition(":")[2]
        for mode in (host.NetworkMode, host.PidMode, host.IpcMode)
        if mode.startswith("container:")
    ]
    endpoints = body.NetworkingConfig.EndpointsConfig if body.NetworkingConfig else {}
    others = [each for entry in endpoints.values() if entry for each in entry.Links]
    named = [each.partition(":")[0] for each in (*host.VolumesFrom, *host.Links, *others)]
    alone = _is_alone(host)
    if host.AutoRemove and host.RestartPolicy and not host.RestartPolicy.is_none:
        raise InvalidRequest("can't create 'AutoRemove' container with restart policy")
    if alone and host.Links:
        raise InvalidRequest("HostConfig.Links: a container without a network of its own has no links")
    own = alone or host.NetworkMode in _DEFAULT_NETWORKS
    return Plan(
        image=body.Image,
        containers=frozenset((*joined, *named)),
        networks=frozenset(
            (*({} if own else {host.NetworkMode: 0}), *(name for name in endpoints if name not in _DEFAULT_NETWORKS))
        ),
        volumes={
            each.volume: VolumeBody(Name=each.volume, DriverOpts={**each.driver_options}, Labels={**each.labels})
            for each in mounts.wanted
            if each.volume is not None
        },
        folders=frozenset(each.inside for each in mounts.wanted if each.inside and each.is_made),
        sources=frozenset(each.inside for each in mounts.wanted if each.inside and not each.is_made),
        own_socket=any(each.socket for each in mounts.wanted),
        request=body,
        mounts=mounts,
        limits=resources.limits(host, policy.limits),
    )


def _is_alone(host: HostConfigBody) -> bool:
    """Whether it has no network of its own."""
    return host.NetworkMode == "none" or host.NetworkMode.startswith("container:")


def known_as(place: dict[str, Any], name: str) -> dict[str, Any]:
    """A container's place in a network, where the others find it by its own name, too."""
    return {**place, "Aliases": [*place.get("Aliases", ()), name]}


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise Refused for one that is the gate's or the service's."""
    if own := [*filter(is_ours, labels)]:
        raise Refused("labels", f"Labels: {own[0]!r}; those that begin with `sibling.` are not for builds")
    if strict_json.told(dict(labels)) > _MOST_LABELS:
        raise Refused("labels", f"Labels: more than {_MOST_LABELS} bytes of them are not for builds")


def is_ours(label: str) -> bool:
    """Whether a label is the gate's or the service's: theirs alone say whose a container is, and an image's none."""
    return label.lower().startswith("sibling.")


def _undressed(image: Mapping[str, Any]) -> dict[str, str]:
    """Labels that take away the meaning of those of an image which are ours; none can be taken away as a whole."""
    return dict.fromkeys(filter(is_ours, image.get("Labels") or ()), "")


def endpoint(given: Endpoint | None, containers: Mapping[str, str]) -> dict[str, Any]:
    """A container's place in a network, for the engine."""
    if given is None:
        return {}
    whole = given.model_dump(exclude_defaults=True, exclude={"Links", "DNSNames"})
    links = [_link(each, containers) for each in given.Links]
    return {**whole, **({"Links": links} if links else {})}


def _link(text: str, containers: Mapping[str, str]) -> str:
    """A link for an endpoint: of a name that the network's DNS has, which is the short id and not the full one.

    It reaches no further than the container's own networks do.
    """
    name, _, alias = text.partition(":")
    return f"{containers[name][:_SHORT_ID]}:{alias or name.removeprefix('/')}"


_MODES: dict[str, frozenset[str]] = {
    "PidMode": frozenset({""}),
    "IpcMode": frozenset({"", "none", "private", "shareable"}),
    "CgroupnsMode": frozenset({"", "private"}),
    "Isolation": frozenset({"", "default"}),
    "Runtime": frozenset({"", "runc"}),
    "VolumeDriver": frozenset({"", "local"}),
}
_JOINABLE = {"PidMode", "IpcMode"}
_NO_NEW_PRIVILEGES = {"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}
_PASSED_OVER = {"no-new-privileges:false", "no-new-privileges=false", "label:disable", "label=disable"}


def _check_host(host: HostConfigBody) -> None:
    for name, allowed in _MODES.items():
        mode = getattr(host, name)
        if mode not in allowed and not (name in _JOINABLE and re.fullmatch(r"container:.+", mode)):
            raise Refused("field", f"HostConfig.{name}: {mode!r} is not for builds")
    wrong = {
        "NetworkMode": [host.NetworkMode] if host.NetworkMode == "host" else [],
        "CapAdd": [each for each in host.CapAdd if _capability(each) not in CAPABILITIES],
        "SecurityOpt": [each for each in host.SecurityOpt if each not in _NO_NEW_PRIVILEGES | _PASSED_OVER],
        "Sysctls": [each for each in host.Sysctls if not _SYSCTL.fullmatch(each)],
    }
    for name, values in wrong.items():
        if values:
            raise Refused("field", f"HostConfig.{name}: {values[0]!r} is not for builds")


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _hosts(given: Sequence[str], resolved: Resolved) -> list[str]:
    """Where ports are published is the host, to the build: the engine would give the address of its own bridge."""
    pairs = [re.split("[:=]", each, maxsplit=1) for each in given]
    return [
        ":".join([*name, resolved.gateways[0] if address == "host-gateway" else address]) for *name, address in pairs
    ]


def _mount(wanted: Wanted, workspace: Workspace | None, resolved: Resolved) -> dict[str, Any]:
    common = {"Target": wanted.target, "ReadOnly": wanted.read_only}
    if wanted.tmpfs is not None:
        return {**common, "Type": "tmpfs", "TmpfsOptions": dict(wanted.tmpfs)}
    if wanted.socket:
        return {**(resolved.socket or {}), **common, "ReadOnly": True}  # else its mode could be changed
    if wanted.inside is not None and workspace is not None:
        subpath = "/".join(filter(None, (workspace.subpath, resolved.paths.get(wanted.inside, wanted.inside))))
        options = {"NoCopy": True, **({"Subpath": subpath} if subpath else {})}
        return {**common, "Type": "volume", "Source": workspace.volume, "VolumeOptions": options}
    source = {"Source": resolved.volumes[wanted.volume]} if wanted.volume else {}
    # The engine copies what the image has there by its path on the host. Whoever has had the volume may have a hand in
    # it, and put a link in the way.
    no_copy = wanted.no_copy or bool(source and source["Source"] not in resolved.new_volumes)
    options = {"NoCopy": no_copy, **({"Subpath": wanted.subpath} if wanted.subpath else {})}
    return {**common, "Type": "volume", **source, "VolumeOptions": options}


def _joined(mode: str, resolved: Resolved) -> str:
    kind, _, name = mode.partition(":")
    return f"container:{resolved.containers[name]}" if kind == "container" else mode


def _with_id(text: str, resolved: Resolved) -> str:
    name, colon, rest = text.partition(":")
    return f"{resolved.containers[name]}{colon}{rest}"


def _plain(value: Any) -> Any:
    return value.model_dump(exclude_defaults=True) if hasattr(value, "model_dump") else value
