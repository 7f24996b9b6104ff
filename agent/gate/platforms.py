"""Platforms of images, as `--platform` has them (containerd, platforms.Parse): OS[/ARCH[/VARIANT]]. Pure."""

from __future__ import annotations

_MACHINES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}


def fits(asked: str, there: str) -> bool:
    """Whether what is asked for, if anything is, is `there`, such as `linux/amd64`; variants are not looked at."""
    system, _, rest = asked.lower().partition("/")
    machine = rest.partition("/")[0]
    if asked and not rest:  # one word is either
        return _MACHINES.get(system, system) in there.split("/")
    return not asked or f"{system}/{_MACHINES.get(machine, machine)}" == there
