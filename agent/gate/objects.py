"""Networks, volumes and commands that a build asks for -> those that the engine is asked for. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent.errors import InvalidRequest
from agent.gate import names, subnets
from agent.gate.create import check_labels, endpoint, known_as
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.gate.bodies import ConnectBody, ExecBody, NetworkBody, VolumeBody
    from agent.gate.policy import GatePolicy

_RESERVED = {"host", "none", "default", "bridge", "ingress", "docker_gwbridge"}
_NETWORK_OPTIONS = {
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.bridge.enable_ip_masquerade",
    "com.docker.network.driver.mtu",
}
# The build's networks have bridges of the engine's naming, and ports are published at their gateways.
_PASSED_OVER = {"com.docker.network.bridge.name", "com.docker.network.bridge.host_binding_ipv4"}
_TMPFS = re.compile(r"(?:(?:size=[0-9]{1,15}[kmgKMG]?|mode=[01]?[0-7]{1,3}|[ug]id=[0-9]{1,10})(?:,|$))*")

_SIZE = re.compile(r"size=([0-9]+)([kmg]?)", re.IGNORECASE)


def network_body(body: NetworkBody, policy: GatePolicy) -> dict[str, Any]:
    """A plain bridge, whose addresses the engine chooses, or the build from those of policy.

    Raises Refused, InvalidRequest.
    """
    name = body.Name
    if names.check("network", name) in _RESERVED:
        raise InvalidRequest(f"{name!r} is the engine's own network; take another name")
    if body.Driver not in ("", "bridge", "default") or body.Scope not in ("", "local"):
        raise Refused("field", f"Driver: {body.Driver or body.Scope!r} is not for builds; leave it out")
    if body.IPAM is not None and body.IPAM.Driver not in ("", "default"):
        raise Refused("field", f"IPAM.Driver: {body.IPAM.Driver!r} is not for builds")
    addresses = subnets.chosen(body.IPAM.addresses if body.IPAM else (), policy.subnets)
    if unknown := sorted(set(body.Options) - _NETWORK_OPTIONS - _PASSED_OVER):
        raise Refused("field", f"Options: {unknown[0]!r} is not for builds")
    check_labels(body.Labels)
    kept = body.model_dump(include={"Name", "Internal", "Attachable", "EnableIPv6", "Labels"})
    options = {name: value for name, value in body.Options.items() if name not in _PASSED_OVER}
    return {**kept, "Options": options, "Driver": "bridge", **({"IPAM": {"Config": addresses}} if addresses else {})}


def connect_body(body: ConnectBody, container: str, name: str, containers: Mapping[str, str]) -> dict[str, Any]:
    """A container's place in a network; `name` is what the build calls it."""
    return {"Container": container, "EndpointConfig": known_as(endpoint(body.EndpointConfig, containers), name)}


def volume_body(body: VolumeBody, most: int) -> dict[str, Any]:
    """A volume of the engine's own disk, or of memory, up to `most` bytes. Raises Refused, InvalidRequest."""
    if body.Name:
        names.check("volume", body.Name)
    if body.Driver not in ("", "local"):
        raise Refused("field", f"Driver: {body.Driver!r} is not for builds")
    options = body.DriverOpts
    plain = {name: options.get(name) for name in ("type", "device")} == {"type": "tmpfs", "device": "tmpfs"}
    if options and not (plain and set(options) <= {"type", "device", "o"} and _TMPFS.fullmatch(options.get("o", ""))):
        raise Refused("field", "DriverOpts: only a tmpfs with size, mode, uid and gid is for builds")
    if plain and not in_memory(options):
        options = {**options, "o": ",".join(filter(None, (options.get("o"), f"size={most}")))}
    check_labels(body.Labels)
    return {"Name": body.Name, "Driver": "local", "DriverOpts": options, "Labels": body.Labels}


def in_memory(options: Mapping[str, str]) -> int:
    """Bytes of memory that a volume with these options may take."""
    sizes = _SIZE.findall(options.get("o", ""))  # of several the last holds (tmpfs(5))
    return int(sizes[-1][0]) * 1024 ** " kmg".index(sizes[-1][1].lower() or " ") if sizes else 0


def exec_body(body: ExecBody) -> dict[str, Any]:
    """A command in a container, without privileges."""
    if not body.Cmd:
        raise InvalidRequest("No exec command specified")
    return {**body.model_dump(exclude_defaults=True), "Privileged": False}
