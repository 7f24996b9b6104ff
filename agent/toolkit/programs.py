"""Running a program of this machine while a part of the toolkit is made."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from agent.errors import InvalidSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def output_of(what: str, argv: Sequence[str | Path]) -> str:
    """What a program writes that takes part in making `what`. Raises InvalidSettings, with its words, if it fails.

    It does not get our environment, which may hold options for any Java or Python.
    """
    done = subprocess.run(argv, env={}, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr + done.stdout).strip()
        raise InvalidSettings(f"{what} could not be made: {' '.join(map(str, argv))} failed: {said}")
    return done.stdout
