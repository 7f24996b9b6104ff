"""How many agents are wanted, counted anew each time from what waits and what there is. Pure; no counters.

Nothing binds a queue item to a node: any of them may take any node whose labels fit. So items are matched here with
agents that no build has come to yet, whoever's they are, and only what remains is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.agents import ownership
from agent.agents.remote import node_name
from agent.requests import AgentRequest
from agent.waiting import wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from agent.agents.catalog import Catalog
    from agent.builds import Build
    from agent.controller import Computer, QueueItem
    from agent.settings.templates import Template
    from agent.waiting import Wanted

Key = tuple[str, ...]  # an agent's labels, sorted: agents with the same ones can stand in for each other


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """A waiting item, and the agent that would do for it; `fits` tells whether a node with some labels would."""

    item: QueueItem
    request: AgentRequest
    fits: Callable[[Collection[str]], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spare:
    """An agent that no build has come to. `build_id` is None if it is another service's."""

    build_id: str | None
    labels: frozenset[str]
    template: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to make, each as often as it is wanted; and which of our spare ones are for no item and no `min_idle`."""

    make: Sequence[AgentRequest]
    unwanted: frozenset[str]


def key_of(request: AgentRequest) -> Key:
    """What makes two agents stand in for each other; one that is refused to its job stands in for none."""
    return (*sorted(request.node_labels), *([] if request.refusal is None else [request.refusal]))


def needs(
    items: Iterable[QueueItem], computers: Mapping[str, Computer], catalog: Catalog, coming_back: Mapping[str, str]
) -> list[Need]:
    """The items that wait for an agent we may have, the oldest first.

    `coming_back` has the nodes whose pipeline goes on there after a restart of the controller, with its URL: its item
    waits for that very node.
    """
    found = []
    for item in sorted(items, key=lambda item: item.since):
        wish = wanted(item.why, item.label_expression, list(computers.values()))
        bound = wish.node is not None and coming_back.get(wish.node) == item.url
        need = _need(item, wish, computers, catalog) if item.buildable and not item.pending and not bound else None
        if need is not None:
            found.append(need)
    return found


def coming_back(agents: Iterable[Build], session: str) -> dict[str, str]:
    """The nodes with a build of before this session of the controller, and that build's URL."""
    found = {}
    for build in agents:
        known = build.agent
        if known is not None and known.job is not None and known.session != session:
            found[node_name(build.id)] = known.job.url
    return found


def spares(agents: Iterable[Build], computers: Mapping[str, Computer], service: str) -> list[Spare]:
    """Agents that no build has come to: ours by our own records, other services' as the controller shows them."""
    ours = [
        Spare(build_id=build.id, labels=frozenset(build.request.node_labels), template=build.request.template)
        for build in agents
        if isinstance(build.request, AgentRequest) and build.agent is not None and build.agent.begun_at is None
    ]
    alive = _alive(computers.values())
    others = [
        Spare(build_id=None, labels=computer.labels - {computer.name})
        for computer in computers.values()
        if _is_anothers_spare(computer, service, alive)
    ]
    return ours + others


def plan(
    waiting: Sequence[Need], spare: Sequence[Spare], agents: Iterable[Build], catalog: Catalog, *, idle: bool
) -> Plan:
    """Match each item with a spare agent, and see what is missing and what is left over.

    `idle` tells whether templates' `min_idle` are to be kept.
    """
    left = list(spare)
    make: list[AgentRequest] = []
    for need in waiting:
        match = next((each for each in left if need.fits(each.labels)), None)
        if match is None:
            make.append(need.request)
        else:
            left.remove(match)
    unwanted = {each.build_id for each in left if each.build_id is not None}
    for template in catalog.templates.values() if idle else ():
        own = [each.build_id for each in left if each.build_id is not None and each.template == template.name]
        unwanted -= set(own[: template.min_idle])
        make += [catalog.of_template(template)] * max(0, template.min_idle - len(own))
    return Plan(make=_within_caps(make, agents, catalog.templates), unwanted=frozenset(unwanted))


def _need(item: QueueItem, wish: Wanted, computers: Mapping[str, Computer], catalog: Catalog) -> Need | None:
    fits: Callable[[Collection[str]], bool]
    if wish.expression is not None:
        request, fits = catalog.for_expression(wish.expression), wish.expression.matches
    elif wish.node is not None and wish.node in computers:
        # It is told apart by one node alone, whose every label may be the one that it waits for.
        labels = computers[wish.node].labels - {wish.node}
        request, fits = catalog.for_labels(labels), labels.issubset
    else:
        return None
    return None if request is None else Need(item=item, request=catalog.granted(request, item.url), fits=fits)


def _is_anothers_spare(computer: Computer, service: str, alive: Collection[str]) -> bool:
    owner = ownership.owner_of(computer.description)
    if owner is None or owner.role != ownership.AGENT or owner.service == service:
        return False
    # One that never connected, of a service that is gone, would be waited for in vain.
    return computer.idle and not computer.marked_offline and (not computer.offline or owner.service in alive)


def _alive(computers: Iterable[Computer]) -> set[str]:
    """The services whose registration node is online."""
    owners = (ownership.owner_of(computer.description) for computer in computers if not computer.offline)
    return {owner.service for owner in owners if owner is not None and owner.role == ownership.REGISTRATION}


def _within_caps(
    make: Sequence[AgentRequest], agents: Iterable[Build], templates: Mapping[str, Template]
) -> list[AgentRequest]:
    room = {name: template.cap for name, template in templates.items() if template.cap is not None}
    for build in agents:
        if isinstance(build.request, AgentRequest) and build.request.template in room:
            room[build.request.template] -= 1
    allowed = []
    for request in make:
        if request.template in room:
            if room[request.template] <= 0:
                continue
            room[request.template] -= 1
        allowed.append(request)
    return allowed
