"""Nodes, items and agents as the controller and the store show them, with everything that a test does not name."""

from agent.agents import ownership
from agent.agents.catalog import Catalog
from agent.agents.ownership import Owner
from agent.builds import AgentRecord, Build, BuildState
from agent.controller import Computer, QueueItem
from agent.requests import AgentRequest
from agent.settings import Settings

US, THEM = "a" * 32, "b" * 32
ID = "01m2x7k3q8v5w9y1z4a6b8c0d"


def computer(name, *labels, **given):
    return Computer(
        **{
            "name": name,
            "description": "",
            "labels": frozenset({name, *labels}),
            "offline": True,
            "marked_offline": False,
            "reason": "",
            "idle": True,
            "executables": (),
            **given,
        }
    )


def owned(name, *labels, role=ownership.AGENT, service=US, build=None, until=None, **given):
    owner = Owner(role=role, service=service, build=build, until=until)
    return computer(name, *labels, description=ownership.marked("x", owner), **given)


def item(number, why="", label=None, **given):
    return QueueItem(
        **{
            "id": number,
            "name": f"job {number}",
            "url": f"http://jenkins/job/{number}/",
            "why": why,
            "label_expression": label,
            "buildable": True,
            "pending": False,
            "since": float(number),
            **given,
        }
    )


def request(*labels, **given):
    return AgentRequest(**{"image": "python:3.12", "node_labels": list(labels), **given})


def agent(last, *labels, state=BuildState.CONNECTED, begun_at=None, template=None, **given):
    """An agent's build whose id ends in `last`."""
    return Build(
        id=f"{ID}{last}",
        state=state,
        request=request(*labels, template=template),
        created_by="jenkins:queue",
        created_at=1.0,
        agent=AgentRecord(begun_at=begun_at),
        **given,
    )


def catalog(**templates):
    return Catalog(templates=Settings(templates=templates).resolved_templates())


def by_name(*computers):
    return {each.name: each for each in computers}
