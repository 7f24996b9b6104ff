"""Who calls from inside of a build's container: the build's own identity, as long as it lasts."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agent import job_url
from agent.errors import Rejected, Unavailable
from agent.requests import AgentRequest, HookRequest
from agent.threads import in_thread
from agent.tokens import Scope, Token

if TYPE_CHECKING:
    from agent.build_store import BuildStore
    from agent.builds import Build

JOB = "job:"  # before the full name of a job, in the name of a caller; no token has a name with a colon
_PATIENCE = 15.0  # seconds that the controller may take to tell which build came to an agent
_PAUSE = 0.1


async def inside(store: BuildStore, build_id: str) -> Token:
    """The caller that a build is, to its own socket.

    Raises NotFound if there is no such build, Rejected if it has no name that grants know, and Unavailable while the
    controller has not told which of its builds an agent runs: what a job may do depends on its name.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        build = await in_thread(store.get, build_id)
        name = _name(build)
        if name is not None:
            return Token(
                id="",
                name=name,
                scopes=frozenset({Scope.READ, Scope.WRITE}),
                created_at=build.created_at,
                job=name.removeprefix(JOB) if name.startswith(JOB) else None,
                build=build_id,
            )
        if time.monotonic() > deadline:
            raise Unavailable(
                f"The controller has not told yet which of its builds runs on {build_id}; try again in a moment.", 2
            )
        await asyncio.sleep(_PAUSE)


def job(name: str) -> Token:
    """Who builds of that job are, as far as grants go."""
    return Token(id="", name=f"{JOB}{name}", scopes=frozenset(), created_at=0.0, job=name)


def _name(build: Build) -> str | None:
    if isinstance(build.request, HookRequest):
        raise Rejected("identity", "a hook has no identity here; nothing can be asked for from its container")
    if not isinstance(build.request, AgentRequest):
        return build.created_by
    job = build.agent and build.agent.job
    if not job:
        return None
    name = job_url.full_name(job.url.rstrip("/").removesuffix(f"/{job.number}"))
    if name is None:
        raise Rejected("identity", f"{job.url} is not the address of a job's build; what it may do cannot be told")
    return f"{JOB}{name}"
