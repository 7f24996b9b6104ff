"""The simulated agent as a process, as it would run in a container."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

    from .simulator import Simulator

_FAST = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djdk.lang.Process.launchMechanism=VFORK")


class AgentProcess:
    """Runs while it is entered. Its node's remoteFS should be `folder`/work, where its builds then are."""

    def __init__(
        self,
        simulator: Simulator,
        node: str,
        folder: Path,
        *options: str,
        secret: str | None = None,
        name: str = "agent",
    ) -> None:
        self.work = folder / "work"
        self._log = folder / f"{name}.log"
        kept = folder / f"{name}.secret"
        kept.write_text(simulator.core.secret_of(node) if secret is None else secret)
        self._command = [
            *("java", *_FAST, "-jar", str(simulator.agent_jar()), "-url", simulator.url, "-name", node),
            *("-secret", f"@{kept}", "-webSocket", "-workDir", str(self.work), *options),
        ]

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL; what it started stays."""
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()
