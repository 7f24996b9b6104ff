"""A simulated Jenkins controller, made from recordings of a real one (2.541.3), for tests. The map, in reading order.

simulator       its life: start, stop, restart; who may call; what goes wrong
handles         what tests do with it directly, and wait for
__main__        it alone, as a program

What it holds
    things      nodes, jobs, builds, queue items
    state       all of them, the lock, the clock
    labels      label expressions
    runs        builds: from an executor to a result, over lost agents and restarts
    log_text    what their logs say
    waiting     the queue: who gets which node
    why         why an item waits, in words
    core        what concerns several of these

How it answers
    server      sockets and connections
    app         what every request passes: record, faults, start-up, user, crumb
    access      users, tokens, permissions
    calls       one request, and the table of pages
    root_pages, node_pages, queue_pages, job_pages
    node_xml, job_xml   configurations
    exported    `depth=` and `tree=`
    shapes, job_shapes  what the API shows of a thing
    answers     status, headers and pages as recorded
    replay      recordings/ asked again, for what differs (scenarios: what happened in between)
    faults      what is scripted to go wrong

Agents
    agents      over WebSocket
    hand_agent  without a process, in a test's hand
    agent_jar   agent.jar, compiled from agent/
    agent_process   one that runs
"""

from .access import ADMINISTER, PERMISSIONS
from .agent_process import AgentProcess
from .faults import Fault
from .hand_agent import HandAgent
from .simulator import Simulator
from .things import Build, Item, Node, Step

__all__ = [
    "ADMINISTER",
    "PERMISSIONS",
    "AgentProcess",
    "Build",
    "Fault",
    "HandAgent",
    "Item",
    "Node",
    "Simulator",
    "Step",
]
