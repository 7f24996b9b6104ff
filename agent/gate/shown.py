"""What the build is shown of its things: without the gate's own labels and names, as a socket would show them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LABEL_IMAGE = "sibling.gate.image"  # what the build called the image of a container
_PREFIX = "sibling.gate"
_BRIDGE = "bridge"
_PATHS = ("ResolvConfPath", "HostnamePath", "HostsPath", "LogPath")  # of the host


@dataclass(frozen=True, slots=True)
class ShownAs:
    """The gate's own network with its gateway, and the workspace: its volume, folder in it, and path in the build."""

    network: str
    gateway: str  # empty if it is not known yet
    volume: str | None
    subpath: str
    path: str


def labels(given: dict[str, str] | None) -> dict[str, str]:
    """Without the gate's."""
    return {name: value for name, value in (given or {}).items() if not name.startswith(_PREFIX)}


def container(found: dict[str, Any], shown_as: ShownAs) -> dict[str, Any]:
    """As GET /containers/NAME/json has it."""
    config, host, settings = found["Config"], found["HostConfig"], found["NetworkSettings"]
    image = (config.get("Labels") or {}).get(LABEL_IMAGE, config["Image"])
    networks = _networks(settings.get("Networks"), shown_as)
    return {
        **found,
        **dict.fromkeys(_PATHS, ""),
        "GraphDriver": {"Name": found.get("GraphDriver", {}).get("Name", ""), "Data": None},
        "Config": {**config, "Labels": labels(config.get("Labels")), "Image": image},
        "HostConfig": {
            **host,
            "NetworkMode": _network_name(host["NetworkMode"], shown_as),
            "PortBindings": _bindings(host.get("PortBindings"), shown_as),
            **({"Mounts": [_asked(each, shown_as) for each in host["Mounts"]]} if host.get("Mounts") else {}),
        },
        "NetworkSettings": {
            **settings,
            **_first(networks.get(_BRIDGE)),
            "Networks": networks,
            "Ports": _bindings(settings.get("Ports"), shown_as),
        },
        "Mounts": [_mount(each, host.get("Mounts") or (), shown_as) for each in found["Mounts"]],
    }


def listed(found: dict[str, Any], shown_as: ShownAs) -> dict[str, Any]:
    """As an entry of GET /containers/json."""
    networks = _networks((found.get("NetworkSettings") or {}).get("Networks"), shown_as)
    return {
        **found,
        "Image": (found.get("Labels") or {}).get(LABEL_IMAGE, found["Image"]),
        "Labels": labels(found.get("Labels")),
        "HostConfig": {"NetworkMode": _network_name(found["HostConfig"]["NetworkMode"], shown_as)},
        "NetworkSettings": {"Networks": networks},
        "Ports": _ports(found.get("Ports") or [], shown_as),
        "Mounts": [_mount(each, (), shown_as) for each in found.get("Mounts") or ()],
    }


def event(found: dict[str, Any], shown_as: ShownAs) -> dict[str, Any]:
    """As GET /events has it, of a container, network or volume."""
    actor = found["Actor"]
    attributes = labels(actor["Attributes"])
    if found["Type"] == "container":
        image = actor["Attributes"].get(LABEL_IMAGE, attributes.get("image", ""))
        return {**found, "from": image, "Actor": {**actor, "Attributes": {**attributes, "image": image}}}
    if found["Type"] == "network":
        attributes["name"] = _network_name(attributes["name"], shown_as)
    return {**found, "Actor": {**actor, "Attributes": attributes}}


def network(found: dict[str, Any], shown_as: ShownAs) -> dict[str, Any]:
    """As GET /networks/NAME has it."""
    return {**found, "Name": _network_name(found["Name"], shown_as), "Labels": labels(found.get("Labels"))}


def volume(found: dict[str, Any]) -> dict[str, Any]:
    """As GET /volumes/NAME has it."""
    return {**found, "Labels": labels(found.get("Labels")) or None}


def _networks(found: dict[str, Any] | None, shown_as: ShownAs) -> dict[str, Any]:
    return {_network_name(name, shown_as): value for name, value in (found or {}).items()}


def _network_name(name: str, shown_as: ShownAs) -> str:
    return _BRIDGE if name == shown_as.network else name


def _bindings(found: dict[str, Any] | None, shown_as: ShownAs) -> dict[str, Any] | None:
    """Bindings at one of the gateways: clients expect one where they asked for one, and all have the same ports."""
    if found is None:
        return None
    address = _address([each["HostIp"] for bound in found.values() for each in bound or ()], shown_as)
    return {
        port: None if bound is None else [each for each in bound if each["HostIp"] == address]
        for port, bound in found.items()
    }


def _ports(found: list[dict[str, Any]], shown_as: ShownAs) -> list[dict[str, Any]]:
    """The same of a list of containers."""
    address = _address([each["IP"] for each in found if "IP" in each], shown_as)
    return [each for each in found if each.get("IP", address) == address]


def _address(found: list[str], shown_as: ShownAs) -> str:
    return shown_as.gateway if shown_as.gateway in found or not found else found[0]


def _first(endpoint: dict[str, Any] | None) -> dict[str, Any]:
    """The default bridge's address stands beside the networks as well (Docker API, NetworkSettings)."""
    names = ("EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "MacAddress")
    return {} if endpoint is None else {name: endpoint[name] for name in names if name in endpoint}


def _mount(found: dict[str, Any], asked: Any, shown_as: ShownAs) -> dict[str, Any]:
    """A part of the workspace is the bind that the build asked for."""
    if found["Type"] != "volume" or found.get("Name") != shown_as.volume:
        return found
    options = next((each.get("VolumeOptions") for each in asked if each["Target"] == found["Destination"]), None)
    kept = {name: value for name, value in found.items() if name not in {"Name", "Driver"}}
    return {**kept, "Type": "bind", "Source": _in_workspace(options, shown_as), "Propagation": "rprivate"}


def _asked(mount: dict[str, Any], shown_as: ShownAs) -> dict[str, Any]:
    """The same of what was asked for."""
    if mount["Type"] != "volume" or mount.get("Source") != shown_as.volume:
        return mount
    kept = {name: value for name, value in mount.items() if name != "VolumeOptions"}
    return {**kept, "Type": "bind", "Source": _in_workspace(mount.get("VolumeOptions"), shown_as)}


def _in_workspace(options: dict[str, Any] | None, shown_as: ShownAs) -> str:
    inside = str((options or {}).get("Subpath", "")).removeprefix(shown_as.subpath).strip("/")
    return f"{shown_as.path}/{inside}" if inside else shown_as.path
