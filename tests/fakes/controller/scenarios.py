"""What was going on around the recorded requests: nodes and jobs that were there, agents that came, talked and went.

Each scenario makes what was there before, and returns what happens before which exchange, by its number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .hand_agent import HandAgent
    from .simulator import Simulator

    Before = dict[int, Callable[[], object]]


def _node(sim: Simulator, name: str, labels: str) -> None:
    sim.add_node(name, labels, remote_fs=f"/var/lib/jenkins/agents/{name}")


def _next_item(sim: Simulator, number: int) -> None:
    sim.core.state.next_item = number


def _counted(word: str, first: int, last: int) -> str:
    """What a loop of `echo WORD n; sleep 1` says."""
    return "".join(f"+ echo {word} {number}\n{word} {number}\n+ sleep 1\n" for number in range(first, last + 1))


def _jobs_of_the_queue(sim: Simulator) -> None:
    sim.add_freestyle("q1", "gpu")
    sim.add_freestyle("qp", "gpu").parameters = {"A": "a0", "B": "b0"}


def nothing(_sim: Simulator) -> Before:
    return {}


def crumbs(sim: Simulator) -> Before:
    sim.add_freestyle("c1")
    return {}


def odd_configurations(sim: Simulator) -> Before:
    for name in ("r-demand", "r-unknown", "x1"):
        _node(sim, name, "lx gpu")
    return {}


def ghost(sim: Simulator) -> Before:
    _node(sim, "r-cloud", "ghost")
    return {}


def secrets(sim: Simulator) -> Before:
    _node(sim, "n2", "lx")
    return {}


def computers(sim: Simulator) -> Before:
    _node(sim, "g1", "lx gpu")
    _node(sim, "other", "cpu")
    agents: list[HandAgent] = []

    def come() -> None:
        agents.append(sim.hand_agent("g1"))

    def come_back() -> None:
        agents[0].connect()

    def go() -> None:
        agents[0].lose()

    return {5: come, 26: come_back, 28: go, 29: come_back, 30: go}


def queue(sim: Simulator) -> Before:
    job = sim.add_freestyle("q1", "gpu")

    def labelled(label: str) -> Callable[[], None]:
        return lambda: setattr(job, "label_text", label)

    return {
        3: lambda: _node(sim, "other", "cpu"),
        4: lambda: _node(sim, "g1", "lx gpu"),
        5: lambda: _node(sim, "g2", "gpu"),
        23: labelled("gpu&&big"),
        26: labelled("gpu||big"),
        29: labelled("!gpu"),
        32: labelled('"with space"'),
        35: labelled("g1"),
        38: labelled("gpu"),
        45: lambda: sim.cancel(8),
    }


def parameters(sim: Simulator) -> Before:
    _jobs_of_the_queue(sim)
    _node(sim, "g1", "lx gpu")
    _node(sim, "g2", "gpu")
    _next_item(sim, 10)
    return {}


def builds(sim: Simulator) -> Before:
    _jobs_of_the_queue(sim)
    _node(sim, "g1", "lx gpu")
    _node(sim, "other", "cpu")
    _next_item(sim, 15)
    agent = sim.hand_agent("g1")

    def say(last: int) -> None:
        agent.say(_counted("line", 1, last))

    def end_first() -> None:
        say(6)
        agent.finish()

    def fail_another() -> None:
        sim.add_freestyle("bf", "gpu", "echo failing; exit 3")
        sim.build("bf")
        agent.finish(3)

    return {29: end_first, 32: lambda: say(1), 43: lambda: say(1), 51: fail_another}


def deletions(sim: Simulator) -> Before:
    for name in ("k1", "k2", "k3", "k4"):
        sim.add_freestyle(name, "gpu", "true")
    _node(sim, "d1", "gpu")
    _next_item(sim, 19)
    agents = {"d1": sim.hand_agent("d1")}
    sim.build("k1")
    agents["d1"].say("+ seq 60\n" + _counted("tick", 1, 7))

    def another_node() -> None:
        _node(sim, "d2", "gpu")
        agents["d2"] = sim.hand_agent("d2")
        agents["d2"].finish()

    def lose_agent() -> None:
        sim.build("k1")
        agents["d2"].say("+ seq 60\n" + _counted("tick", 1, 4))
        agents["d2"].lose()

    def both_busy() -> None:
        _node(sim, "d3", "gpu")
        agents["d2"].connect()
        sim.hand_agent("d3")
        sim.build("k4")
        sim.build("k3")
        _next_item(sim, 24)

    return {
        12: lambda: sim.wait(lambda: not sim.core.state.leaving),
        13: another_node,
        14: lose_agent,
        17: both_busy,
    }


def restart(sim: Simulator) -> Before:
    for name, label in (("pp", "pp"), ("t1", "tcp"), ("w1", "ws")):
        _node(sim, name, label)
    sim.add_freestyle("f1", "tcp", "true")
    sim.add_pipeline("p1", "pp", "true")
    sim.add_freestyle("qq", "nosuch").parameters = {"A": "a0"}
    agents = [sim.hand_agent(name) for name in ("pp", "t1", "w1")]
    sim.build("f1")
    sim.build("p1")
    agents[1].say("+ seq 400\n" + _counted("tick", 1, 2))
    agents[0].say("+ seq 75\n" + _counted("t", 1, 2))
    _next_item(sim, 33)
    sim.build("qq", parameters={"A": "5"})

    def boot() -> None:
        sim.stop()
        sim.start(starting=60, wait=False)

    def end_pipeline() -> None:
        agents[0].say(_counted("t", 3, 75))
        agents[0].finish()

    def kill() -> None:
        sim.build("f1")
        _next_item(sim, 38)
        sim.build("qq", parameters={"A": "6"})
        sim.stop(kill=True)
        sim.start()

    return {
        2: boot,
        17: lambda: sim.set_phase("ready"),
        21: lambda: [agent.connect() for agent in agents],
        28: end_pipeline,
        30: kill,
    }


def pipelines(sim: Simulator) -> Before:
    sim.add_pipeline("p1", "gpu", "true")
    sim.add_pipeline("p2", "gpu", "true")
    _next_item(sim, 25)
    agents: list[HandAgent] = []

    def end_p1() -> None:
        agents[0].finish()

    def begin_p2() -> None:
        _next_item(sim, 28)
        sim.build("p2")
        agents[0].say("+ seq 90\n" + _counted("t", 1, 2))

    def queue_p2() -> None:
        _next_item(sim, 29)
        sim.build("p2")

    return {
        6: lambda: _node(sim, "other", "cpu"),
        7: lambda: _node(sim, "g1", "gpu"),
        8: lambda: _node(sim, "g2", "gpu"),
        9: lambda: sim.delete_node("g2"),
        13: lambda: sim.move_clock(16),
        14: lambda: agents.append(sim.hand_agent("g1")),
        17: end_p1,
        19: begin_p2,
        24: queue_p2,
    }


def single_use(sim: Simulator) -> Before:
    sim.add_freestyle("u1", "single", "true")
    _node(sim, "w", "ws")
    _next_item(sim, 39)

    def run_build() -> None:
        agent = sim.hand_agent("single-1")
        said = "NODE=single-1 LABELS=single single-1 BUILD=1"
        agent.say(f"+ echo {said}\n{said}\n+ sleep 2\n")
        agent.finish()

    return {6: run_build, 14: lambda: sim.hand_agent("w")}


def expiry(sim: Simulator) -> Before:
    sim.add_freestyle("lx", "lx")
    _next_item(sim, 38)
    sim.cancel(sim.build("lx"))
    return {1: lambda: sim.move_clock(301)}


# the recording, what was around it, and the exchanges left out: a schedule of offline times and what a real controller
# showed only for a moment
ALL = {
    "01": (nothing, ()),
    "02": (crumbs, ()),
    "03": (nothing, (29, 32)),
    "03b": (odd_configurations, ()),
    "03c": (ghost, ()),
    "04": (secrets, ()),
    "05": (computers, ()),
    "06a": (queue, ()),
    "06b": (parameters, ()),
    "07": (builds, (13, *range(20, 29), 52)),
    "08": (deletions, ()),
    "09": (restart, (5, 19)),
    "10": (pipelines, (1, 12, 18)),
    "11": (single_use, ()),
    "12": (expiry, ()),
}
