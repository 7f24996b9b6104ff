"""The client as people start it: a process of its own, with real signals, pipes and terminals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CLIENT = [sys.executable, "-m", "api.client"]


def environment(**variables: str) -> dict[str, str]:
    """This one without anything that would steer the client."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("SIBLING_", "SSL_", "NO_COLOR"))}
    return {**own, "PYTHONPATH": str(ROOT), "TERM": "xterm", "TZ": "UTC", **variables}


def start(*arguments: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """Start the client; its output goes to pipes unless `options` say otherwise."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # Whoever runs the tests in the background has made INT ignored, which children inherit.
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    return subprocess.Popen([*CLIENT, *arguments], env=env or environment(), **{**streams, **options})


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the client to its end."""
    with start(*arguments, **options) as process:
        out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)
