"""Why an item waits, in the words of the recordings; in German for whoever does not ask for English."""

# ruff: noqa: RUF001 - the quotation marks are Jenkins' own

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .labels import Label
    from .state import State
    from .things import Item, Node

_TEXTS = {
    "executor": ("Waiting for next available executor", "Warte auf den nächsten freien Build-Prozessor"),
    "executor on": (
        "Waiting for next available executor on ‘{}’",
        "Warte auf den nächsten freien Build-Prozessor auf ‘{}’",
    ),
    "no nodes": ("There are no nodes with the label ‘{}’", "Kein Knoten hat das Label ‘{}’"),
    "all offline": ("All nodes of label ‘{}’ are offline", "Alle Knoten mit dem Label ‘{}’ sind offline"),
    "offline": ("‘{}’ is offline", "‘{}’ ist nicht verbunden"),
    "reserved": (
        "‘{}’ is reserved for jobs with matching label expression",
        "‘{}’ nimmt nur Jobs mit passendem Label",
    ),
    "quiet": ("In the quiet period. Expires in {}", "In der Ruheperiode, noch {}"),
    "shutdown": ("Jenkins is about to shut down", "Jenkins fährt gerade herunter"),
    "queued": ("A build is already in progress", "Ein Build läuft schon"),
    "building": ("Build #{} is already in progress (ETA: N/A)", "Build #{} läuft schon (Rest: unbekannt)"),
}


def speaks_english(accept_language: str | None) -> bool:
    """Does the first language of the header mean English? Without a header the controller's own is used: German."""
    return bool(re.match(r"\s*en\b", accept_language or "", re.IGNORECASE))


def is_stuck(state: State, item: Item) -> bool:
    """True as soon as no node that is online could take it."""
    return item.state == "buildable" and item.label is not None and _offline(state.nodes_of(item.label))


def why(state: State, item: Item, *, english: bool) -> str | None:
    if item.state == "left":
        return None
    if state.quiet is not None and not item.resumes:
        return _say("shutdown", english=english)
    if item.state == "waiting":
        return _say("quiet", _span(item.wait_until - state.clock.now()), english=english)
    if item.state == "blocked":
        return _blocked(item, english=english)
    return _buildable(state, item, english=english)


def _say(key: str, subject: object = "", *, english: bool) -> str:
    return _TEXTS[key][0 if english else 1].format(subject)


def _blocked(item: Item, *, english: bool) -> str:
    running = [build for build in item.job.builds.values() if build.building]
    return _say("building", running[0].number, english=english) if running else _say("queued", english=english)


def _buildable(state: State, item: Item, *, english: bool) -> str:
    if not state.nodes:  # then there is no point in talking about labels
        return _say("executor", english=english)
    if item.label is None:
        return _unlabelled(state, english=english)
    nodes = state.nodes_of(item.label)
    return _labelled(item.label, nodes, english=english)


def _labelled(label: Label, nodes: list[Node], *, english: bool) -> str:
    if not nodes:
        return _say("no nodes", label.name, english=english)
    if len(nodes) == 1:
        return _say("offline" if nodes[0].offline else "executor on", _called(nodes[0]), english=english)
    return _say("all offline" if _offline(nodes) else "executor on", label.name, english=english)


def _unlabelled(state: State, *, english: bool) -> str:
    reserved = sorted(node.name for node in state.nodes.values() if node.exclusive and node.idle_executors)
    if not reserved:
        return _say("executor", english=english)
    return "; ".join(_say("reserved", name, english=english) for name in reserved[:5])


def _offline(nodes: list[Node]) -> bool:
    return all(node.offline for node in nodes)


def _called(node: Node) -> str:
    return "Built-In Node" if node.built_in else node.name


def _span(seconds: float) -> str:
    if seconds >= 10:
        return f"{int(seconds)} sec"
    if seconds >= 1:
        return f"{seconds:.1f} sec"
    return f"{max(0, int(seconds * 1000))} ms"
