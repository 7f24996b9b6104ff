"""Addresses that a build chooses for a network of its own -> those that the engine is asked for. Pure.

A bridge takes its subnet out of what the host can reach elsewhere: who could choose any could be taken for the registry
or the controller. So a subnet must be in one that policy has for builds; with others in use there, the engine sees that
it does not overlap.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, TypeVar

from agent.errors import InvalidRequest
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.gate.bodies import IPAMConfigBody

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

T = TypeVar("T")


def gateway(network: Mapping[str, Any]) -> str:
    """The address of the host in a network, as the engine tells of one (Docker API, NetworkInspect)."""
    return str(network["IPAM"]["Config"][0]["Gateway"])


def chosen(asked: Sequence[IPAMConfigBody], allowed: Sequence[str]) -> list[dict[str, Any]]:
    """The `IPAM.Config` of a network; empty if the engine is to choose. Raises Refused, InvalidRequest."""
    return [_one(each, allowed) for each in asked if each.model_dump(exclude_defaults=True)]


def _one(asked: IPAMConfigBody, allowed: Sequence[str]) -> dict[str, Any]:
    subnet = _parsed(ipaddress.ip_network, "Subnet", asked.Subnet) if asked.Subnet else None
    if subnet is None or not any(_within(subnet, ipaddress.ip_network(each)) for each in allowed):
        raise Refused(
            "subnet",
            f"IPAM.Config: {asked.Subnet or 'no Subnet'} is in none of the subnets that policy has for builds "
            f"({', '.join(allowed) or 'there are none'}); leave it out, and the engine chooses",
        )
    part = _parsed(ipaddress.ip_network, "IPRange", asked.IPRange) if asked.IPRange else subnet
    if not _within(part, subnet):
        raise InvalidRequest(f"IPAM.Config: IPRange {part} is not in {subnet}")
    # What the engine would take; it does not tell afterwards, and published ports are at the gateway.
    gateway = asked.Gateway or str(next(iter(part.hosts())))
    for name, text in (("Gateway", gateway), *asked.AuxiliaryAddresses.items()):
        if _parsed(ipaddress.ip_address, name, text) not in subnet:
            raise InvalidRequest(f"IPAM.Config: {name} {text} is not in {subnet}")
    made = {"Subnet": str(subnet), "Gateway": gateway, "AuxiliaryAddresses": asked.AuxiliaryAddresses}
    return {**made, **({"IPRange": str(part)} if asked.IPRange else {})}


def _within(subnet: Network, allowed: Network) -> bool:
    if isinstance(subnet, ipaddress.IPv4Network):
        return isinstance(allowed, ipaddress.IPv4Network) and subnet.subnet_of(allowed)
    return isinstance(allowed, ipaddress.IPv6Network) and subnet.subnet_of(allowed)


def _parsed(parse: Callable[[str], T], name: str, text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidRequest(f"IPAM.Config: {name}: {error}") from error
