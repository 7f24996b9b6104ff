"""How much a container may take: what the build asks for, within its limits, or else these. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.gate.policy import Refused

if TYPE_CHECKING:
    from agent.gate.bodies import HostConfigBody, UpdateBody
    from agent.gate.policy import Limits

_PERIOD = 100_000  # microseconds, the kernel's own (cpu.cfs_period_us)
_LEAST_CPUS = 10**7  # in 10**-9 CPUs: of fewer than 10**4 the engine makes a quota of 0, which is none
_LEAST_MEMORY = 6 * 1024**2  # the engine takes no less (moby/moby, daemon_unix.go, linuxMinMemory)
_MOST_FILES = 1024 * 1024
_ULIMITS = {"nproc", "core", "memlock", "stack", "fsize", "data", "cpu", "as", "rss", "locks", "sigpending", "msgqueue"}
_LOG_FILES = 2
_NEVER_AGAIN = {"Name": "no"}  # the engine would start it without a look at its files: see `restarts`
_FAIR_SHARE = 1024  # what a container that asks for none has (cgroups(7), cpu.shares): less may be asked for


def limits(host: HostConfigBody, most: Limits) -> dict[str, Any]:
    """The fields of a HostConfig. Raises Refused for what is over the limits."""
    memory = _memory(host.Memory, most)
    if host.ShmSize > memory:
        raise Refused(
            "limits.memory", f"HostConfig.ShmSize: {host.ShmSize} is more than the container's memory, {memory}"
        )
    return {
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": _cpus(host.NanoCpus, host.CpuQuota, host.CpuPeriod, most),
        "PidsLimit": _pids(host.PidsLimit, most),
        "CpuShares": min(host.CpuShares, _FAIR_SHARE),
        "CpusetCpus": host.CpusetCpus,
        "CpusetMems": host.CpusetMems,
        "Ulimits": _ulimits(host),
        "RestartPolicy": _NEVER_AGAIN,
        "LogConfig": _log(host, most),
        **({"ShmSize": host.ShmSize} if host.ShmSize else {}),
        **({"MemoryReservation": min(host.MemoryReservation, memory)} if host.MemoryReservation else {}),
    }


def update(body: UpdateBody, most: Limits) -> dict[str, Any]:
    """The fields of an update, those alone that are asked for. Raises Refused."""
    asked: dict[str, Any] = {
        "CpuShares": min(body.CpuShares, _FAIR_SHARE),
        "CpusetCpus": body.CpusetCpus,
        "CpusetMems": body.CpusetMems,
    }
    if body.Memory or body.MemorySwap:
        memory = _memory(body.Memory, most)
        asked |= {"Memory": memory, "MemorySwap": memory}
    if body.NanoCpus or body.CpuQuota:
        asked["NanoCpus"] = _cpus(body.NanoCpus, body.CpuQuota, body.CpuPeriod, most)
    if body.PidsLimit is not None:
        asked["PidsLimit"] = _pids(body.PidsLimit, most)
    return {name: value for name, value in asked.items() if value}


def _memory(asked: int, most: Limits) -> int:
    if asked < 0 or asked > most.memory:
        raise Refused(
            "limits.memory", f"HostConfig.Memory: {asked} is more than the {most.memory} bytes that there may be"
        )
    return max(asked or most.memory, _LEAST_MEMORY)


def _cpus(nano: int, quota: int, period: int, most: Limits) -> int:
    asked = nano or (quota * 10**9 // (period or _PERIOD) if quota > 0 else 0)
    if nano < 0 or asked > most.cpus * 10**9:
        raise Refused(
            "limits.cpus", f"HostConfig.NanoCpus: {asked} is more than the {most.cpus:g} CPUs that there may be"
        )
    return max(asked or int(most.cpus * 10**9), _LEAST_CPUS)


def _pids(asked: int | None, most: Limits) -> int:
    if asked is not None and asked > most.pids:
        raise Refused("limits.pids", f"HostConfig.PidsLimit: {asked} is more than the {most.pids} that there may be")
    return asked if asked is not None and asked > 0 else most.pids


def _ulimits(host: HostConfigBody) -> list[dict[str, Any]]:
    for each in host.Ulimits:
        known = each.Name in _ULIMITS or (each.Name == "nofile" and 0 <= each.Hard <= _MOST_FILES)
        if not known or min(each.Soft, each.Hard) < -1:
            raise Refused("field", f"HostConfig.Ulimits: {each.Name} {each.Soft}:{each.Hard} is not for builds")
    return [each.model_dump() for each in host.Ulimits]


def _log(host: HostConfigBody, most: Limits) -> dict[str, Any]:
    kind = host.LogConfig.Type if host.LogConfig else ""
    if kind == "none":
        return {"Type": "none", "Config": {}}
    if kind not in ("", "json-file", "local"):
        raise Refused("field", f"HostConfig.LogConfig: the driver {kind!r} is not for builds")
    size = str(max(most.log // _LOG_FILES, 1))
    return {"Type": "json-file", "Config": {"max-size": size, "max-file": str(_LOG_FILES)}}
