"""Who may have which level of Docker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import callers, grants
from agent.errors import Rejected
from agent.requests import AgentRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.build_store import BuildStore
    from agent.builds import Build
    from agent.fields import DockerLevel
    from agent.settings.grants import GrantSettings
    from agent.tokens import Token


def check_daemons(level: DockerLevel, image: str | None) -> None:
    """Raise Rejected if the level needs a daemon, and there is no image for those (`daemon.image`)."""
    if level == "isolated" and image is None:
        raise no_daemons()


def no_daemons() -> Rejected:
    """The refusal of a service without an image for daemons."""
    return Rejected("daemon.image", "docker = 'isolated' needs daemon.image; an admin can set it")


def by_template(template: str | None, level: DockerLevel) -> bool:
    """Whether an admin gave it to whoever gets an agent of the template; the host's socket is for named jobs alone."""
    return template is not None and level != "host"


def domain(caller: Token) -> str:
    """Whose builds trust each other with what they leave: those of a folder of jobs, or of a token."""
    if caller.job is None:
        return caller.name
    folder, _, job = caller.job.rpartition("/")
    return f"{callers.JOB}{folder or job}"


async def connecting(store: BuildStore, build: Build, tables: Mapping[str, GrantSettings]) -> Token:
    """Whose build connects to its Docker socket. Raises Rejected if its level is not for them, and Unavailable.

    A build over HTTP was asked about when it was admitted; of an agent the job is only known now.
    """
    caller = await callers.inside(store, build.id)
    request = build.request
    if isinstance(request, AgentRequest) and not by_template(request.template, request.docker):
        grants.check_docker(caller, request.docker, tables)
    return caller
