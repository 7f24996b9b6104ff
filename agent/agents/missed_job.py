"""Which freestyle build ran on an agent that was over between two looks at the controller: by what it left on the disk.

Jenkins makes a build's workspace in folders named after the job and the folders that the job is in. What else is there
is the build's own doing, so that the controller has the last word: the build must have run on this very node.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import quote

from agent.agents.remote import JOBS
from agent.builds import Job
from agent.threads import in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from agent.controller import Controller

_MOST = 10  # questions to the controller
_WIDE = 5  # folders that are looked into of one; Jenkins makes one, and one for temporary files beside it


async def find_missed_job(controller: Controller, node: str, workspace: Path) -> Job | None:
    """The job, or None if there is none that says so. Raises ControllerError."""
    root = workspace / JOBS
    paths, asked = await in_thread(_folders, root), 0
    while paths and asked < _MOST:
        path = paths.pop(0)
        run = await controller.run(f"{controller.url}{_url_path(path.relative_to(root).parts)}lastBuild/")
        asked += 1
        if run is not None and run.node == node:
            return Job(url=run.url, number=run.number, name=run.name)
        if run is None:  # no job of that name: a folder of jobs, maybe
            paths += await in_thread(_folders, path)
    return None


def _folders(path: Path) -> list[Path]:
    """Those that may be named after a job; links are not followed."""
    try:
        with os.scandir(path) as entries:
            found = (entry for entry in entries if entry.is_dir(follow_symlinks=False) and "@" not in entry.name)
            return [path / entry.name for entry in islice(found, _WIDE)]
    except OSError:
        return []


def _url_path(parts: tuple[str, ...]) -> str:
    return "".join(f"job/{quote(part, safe='')}/" for part in parts)
