"""A Docker Engine for one part alone: its cache is empty at first, and no other's has anything of it afterwards."""

from __future__ import annotations

import os
import shlex
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.harness import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENGINE = Path(__file__).parents[1] / "scripts" / "engine"
_NAMED = {"SIBLING_ENGINE_NAME": f"bench-{os.getpid()}"}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where it is, and the environment in which `docker` and `docker buildx` use it."""

    host: str
    environment: dict[str, str]

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return self.host.removeprefix("unix://")

    @property
    def tools(self) -> Path:
        """The folder that docker and its plugins are in."""
        return Path(self.environment["DOCKER_CONFIG"]).parent

    def docker(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        """What the docker command says on standard output."""
        return _output(["docker", *arguments], self.environment, stdin)


@contextmanager
def throwaway_engine() -> Iterator[Engine]:
    """Bring one with the image of busybox from the engine in use, and take it away with all that it has."""
    image = _output(["docker", "save", BUSYBOX], _environment({}))
    try:
        _output([str(_ENGINE), "up"], os.environ | _NAMED)
        environment = _environment(_NAMED)
        engine = Engine(host=environment["DOCKER_HOST"], environment=environment)
        engine.docker("load", stdin=image)
        yield engine
    finally:
        _output([str(_ENGINE), "down", "--purge"], os.environ | _NAMED)


def _environment(more: dict[str, str]) -> dict[str, str]:
    """What `scripts/engine env` exports."""
    environment = os.environ | more
    for line in _output([str(_ENGINE), "env"], environment).decode().splitlines():
        name, _, value = shlex.split(line)[1].partition("=")
        environment[name] = value
    return environment


def _output(command: list[str], environment: dict[str, str], stdin: bytes | None = None) -> bytes:
    return subprocess.run(command, env=environment, input=stdin, stdout=subprocess.PIPE, check=True).stdout
