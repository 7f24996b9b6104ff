"""The host's CPUs, memory and disk, as the kernel tells them now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """Bytes, but for `cpus`. Disk is the one that holds the data folder."""

    cpus: int
    memory_total: int
    memory_available: int
    disk_total: int
    disk_free: int


def read_host(data_dir: Path) -> Host:
    """Read it. /proc/meminfo tells the host's memory in a container too (proc(5))."""
    memory = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        memory[name] = int(value.split()[0]) * 1024
    disk = os.statvfs(data_dir)
    return Host(
        cpus=os.cpu_count() or 1,
        memory_total=memory["MemTotal"],
        memory_available=memory["MemAvailable"],
        disk_total=disk.f_blocks * disk.f_frsize,
        disk_free=disk.f_bavail * disk.f_frsize,
    )
