"""How an agent's node is on the controller: its name, its labels, its folder, and what its description says. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import toolkit
from agent.agents import ownership
from agent.agents.ownership import Owner
from agent.engine import container_name

if TYPE_CHECKING:
    from agent.builds import Build
    from agent.requests import AgentRequest

REMOTE_DIR = toolkit.WORKSPACE
# Jenkins keeps the workspaces of jobs in this folder of a node's (WorkspaceLocator, Slave.getWorkspaceRoot).
JOBS = "workspace"


def node_name(build_id: str) -> str:
    """The node's name: its container's. It has 80 random bits and is used once, since a node's secret is its name's."""
    return container_name(build_id)


def description(build: Build, request: AgentRequest, service: str, failure: str | None = None) -> str:
    """What the node's page says; at last, how the agent failed."""
    made_from = f"template {request.template}" if request.template else "its label"
    text = f"Sibling agent of image {request.image}, by {made_from}; build {build.id} of the service."
    if failure is not None:
        text = f"{text} It failed: {failure}"
    return ownership.marked(text, Owner(role=ownership.AGENT, service=service, build=build.id))
