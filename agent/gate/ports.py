"""Ports of a container that are published: at the addresses of the build's own networks, and at no other. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent.errors import InvalidRequest
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.gate.bodies import ContainerBody

_ANY_ADDRESS = {"", "0.0.0.0", "::", "127.0.0.1", "::1", "localhost"}  # noqa: S104 - they all become the gateway's
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_CONTAINER_PORT = re.compile(r"[0-9]{1,5}(?:/(?:tcp|udp|sctp))?")
_MOST_PORTS = 100  # of a container: the engine starts a process for each
MOST_EXPOSED = 1000  # of a container: the engine tells them in lists


def published(
    request: ContainerBody, inherited: Mapping[str, Any], gateways: Sequence[str], free_ports: Iterator[str]
) -> dict[str, list[dict[str, str]]]:
    """The PortBindings: where an engine would publish at all its addresses, at the gateways of the build's containers.

    `inherited` is the image's Config. Raises Refused, InvalidRequest.
    """
    host = request.HostConfig
    wanted: dict[str, list[dict[str, str]]] = {}
    for port, bindings in host.PortBindings.items():
        if not _CONTAINER_PORT.fullmatch(port):
            raise InvalidRequest(f"HostConfig.PortBindings: {port!r} is no port")
        wanted[port] = []
        for binding in bindings or ():
            if binding.HostIp not in _ANY_ADDRESS:
                raise Refused(
                    "field", f"HostConfig.PortBindings: the address {binding.HostIp!r} is not the build's; leave it out"
                )
            _check_port(binding.HostPort)
            wanted[port] += _at_each(binding.HostPort, gateways, free_ports)
    exposed = (*request.ExposedPorts, *(inherited.get("ExposedPorts") or ()))
    if sum(map(count, exposed)) > MOST_EXPOSED:
        raise Refused("field", f"ExposedPorts: more than {MOST_EXPOSED} ports are not for builds")
    if host.PublishAllPorts:
        for port in exposed:
            wanted.setdefault(port, _at_each("", gateways, free_ports))
    if sum(map(len, wanted.values())) > _MOST_PORTS:
        raise Refused("field", f"HostConfig.PortBindings: more than {_MOST_PORTS} ports are not for builds")
    return wanted


def count(text: str) -> int:
    """How many ports one is, as in `8000-8009/tcp`."""
    first, _, last = text.partition("/")[0].partition("-")
    return max(int(last or first) - int(first), 0) + 1 if first.isdecimal() and (last or "0").isdecimal() else 1


def _at_each(port: str, gateways: Sequence[str], free_ports: Iterator[str]) -> list[dict[str, str]]:
    """The same port at all: clients ask for it once, and go to the gateway that they know.

    The engine would choose another free one for each address. None of these is taken by others, as they are the
    build's own addresses, unless a service of the host listens on all addresses: then the start fails.
    """
    if "-" in port:
        return [{"HostIp": gateways[0], "HostPort": port}]
    if port in ("", "0") and len(gateways) > 1:
        port = next(free_ports)
    return [{"HostIp": gateway, "HostPort": port} for gateway in gateways]


def _check_port(text: str) -> None:
    match = _PORT.fullmatch(text) if text else None
    if text and (
        match is None or int(match[2] or match[1]) > 65535 or int(match[2] or match[1]) - int(match[1]) > _MOST_PORTS
    ):
        raise InvalidRequest(f"HostConfig.PortBindings: {text!r} is no port, or more than {_MOST_PORTS} of them")
