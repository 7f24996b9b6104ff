"""What a build asked for in a container, where the engine is asked for something else: its inspect tells the former.

Clients that compare, such as Ansible's, would make it anew each time. Nothing of it goes to the engine again. Pure.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.gate.bodies import UpdateBody
    from agent.gate.create import Plan

_MOST = 16 * 1024  # characters, in the journal: of a container with more, what the engine has is shown
_LISTS = ("Binds", "CapAdd", "CapDrop", "VolumesFrom", "SecurityOpt")
_AMOUNTS = ("Memory", "MemorySwap", "NanoCpus", "CpuQuota", "CpuPeriod", "CpuShares", "PidsLimit")
_DEFAULT_LOG = "json-file"


def text(plan: Plan, containers: Mapping[str, str]) -> str:
    """It, for the journal; empty if it is too long. `containers` are the ids of those that it names."""
    host, log = plan.request.HostConfig, plan.request.HostConfig.LogConfig
    mounts = [each.model_dump(exclude_defaults=True) for each in host.Mounts]
    links = [each.partition(":") for each in host.Links] if plan.is_on_bridge else []
    return _written(
        {
            "host": {
                **{name: getattr(host, name) or None for name in _LISTS},
                "PortBindings": {
                    port: None if bound is None else [each.model_dump() for each in bound]
                    for port, bound in host.PortBindings.items()
                },
                "PublishAllPorts": host.PublishAllPorts,
                "LogConfig": {
                    "Type": (log.Type if log else "") or _DEFAULT_LOG,
                    "Config": log.Config if log else {},
                },
                **({"Mounts": mounts} if mounts else {}),
                **{name: getattr(host, name) or 0 for name in _AMOUNTS},
                "MemorySwap": host.MemorySwap or 2 * host.Memory,  # as the engine has it
                "PidsLimit": host.PidsLimit if (host.PidsLimit or 0) > 0 else None,
            },
            "links": [(containers[name], alias or name.removeprefix("/")) for name, _, alias in links],
            "mounts": {each.target: (each.source(plan.mounts.workspace), each.mode) for each in plan.mounts.wanted},
        }
    )


def updated(known: str, body: UpdateBody) -> str:
    """The same after an update."""
    if not known:
        return ""
    whole = json.loads(known)
    changed = {name: getattr(body, name) for name in _AMOUNTS if getattr(body, name)}
    return _written({**whole, "host": {**whole["host"], **changed}})


def shown(found: dict[str, Any], known: str, names: Mapping[str, str]) -> dict[str, Any]:
    """A container as `shown.container` has it, with that. `names` are those of the build's containers by their ids."""
    if not known:
        return found
    whole = json.loads(known)
    own = names.get(found["Id"], "")
    links = [f"/{names[each]}:/{own}/{alias}" for each, alias in whole["links"] if each in names]
    host = {name: value for name, value in found["HostConfig"].items() if name != "Mounts"}  # the binds, too
    return {
        **found,
        "HostConfig": {**host, **whole["host"], "Links": links or None},
        "Mounts": mounts(found["Mounts"], known),
    }


def mounts(found: list[dict[str, Any]], known: str) -> list[dict[str, Any]]:
    """A container's mounts as `shown` has them, with their paths in the build and their modes."""
    places = json.loads(known)["mounts"] if known else {}
    return [{**each, **_place(*places.get(each["Destination"], ("", each["Mode"])))} for each in found]


def _place(source: str, mode: str) -> dict[str, str]:
    return {"Mode": mode, **({"Source": source} if source else {})}


def _written(whole: dict[str, Any]) -> str:
    made = json.dumps(whole, separators=(",", ":"))
    return made if len(made) <= _MOST else ""
