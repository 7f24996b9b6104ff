"""What an item waits for is read from every text in which Jenkins says it, whatever labels and nodes are called."""
# ruff: noqa: RUF001 - the quotes are Jenkins' own

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.controller import Computer
from agent.labels import Atom, Chain, Not, parse, parse_assigned, parse_name
from agent.waiting import NOTHING, Wanted, wanted

GPU = Wanted(Atom("gpu"))
# No node may have any other character in its name (Jenkins.checkGoodName), and none ends in a space.
NODE_NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="?*/\\%!@#$^&|<>[]:;"), min_size=1, max_size=12
).map(lambda name: f"n{name}n")
LABELS = st.text(st.sampled_from("ab \"'‘’&|!()->.=:/"), min_size=1, max_size=10)


def computer(name, *labels):
    return Computer(
        name=name,
        description="",
        labels=frozenset(labels) | {name},
        offline=True,
        marked_offline=False,
        reason="",
        idle=True,
        executables=(),
    )


BUILT_IN = computer("Built-In Node", "built-in")
OTHER = computer("other")
NODES = [BUILT_IN, OTHER, computer("g1", "gpu"), computer("g2", "gpu", "big"), computer("none"), computer("gpu-less")]


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        ("There are no nodes with the label ‘gpu’", GPU),
        ("There are no nodes with the label 'gpu'", GPU),
        ("There are no nodes with the label gpu", GPU),
        ("There are no nodes with the label ‘gpu&&big’", Wanted(Chain("&&", (Atom("gpu"), Atom("big"))))),
        ("There are no nodes with the label ‘with space’", Wanted(Atom("with space"))),
        ('There are no nodes with the label ‘"image=a:1"&&b’', Wanted(parse('"image=a:1" && b'))),
        ("There are no nodes with the label ‘image=python:3.12,run=7’", Wanted(Atom("image=python:3.12,run=7"))),
        ("There are no nodes with the label ‘x’ are offline’", Wanted(Atom("x’ are offline"))),
        ("There are no nodes with the label ", Wanted(Atom(""))),
        ("All nodes of label ‘gpu’ are offline", GPU),
        ("All nodes of label gpu are offline", GPU),
        ("All nodes of label ‘gpu||big’ are offline", Wanted(Chain("||", (Atom("gpu"), Atom("big"))))),
        ("Waiting for next available executor on ‘!gpu’", Wanted(Not(Atom("gpu")))),
        ("Waiting for next available executor on ‘gpu’", GPU),
        ("Waiting for next available executor on 'gpu'", GPU),
        ("Waiting for next available executor on gpu", GPU),
        ("Waiting for next available executor on ‘g1’", Wanted(Atom("gpu"), "g1")),
        ("Waiting for next available executor on g1", Wanted(Atom("gpu"), "g1")),
        ("Waiting for next available executor on ‘g2’", Wanted(None, "g2")),
        ("Waiting for next available executor on ‘none’", Wanted(Atom("none"), "none")),
        ("‘g1’ is offline", Wanted(Atom("gpu"), "g1")),
        ("'g1' is offline", Wanted(Atom("gpu"), "g1")),
        ("g1 is offline", Wanted(Atom("gpu"), "g1")),
        ("‘g2’ is offline", Wanted(None, "g2")),
        ("‘none’ is offline", Wanted(Atom("none"), "none")),
        ("‘gone’ is offline", NOTHING),
        ("‘g1’ is not accepting tasks", Wanted(Atom("gpu"), "g1")),
        ("‘g1’ is not accepting tasks; ‘g2’ is offline", GPU),
        ("‘g1’ is not accepting tasks; ‘none’ is offline", NOTHING),
        ("‘g1’ is not accepting tasks; ‘me’ lacks permission to run on ‘g2’", Wanted(Atom("gpu"), "g1")),
        ("‘Jenkins’ doesn’t have label ‘gpu’", GPU),
        ("'Jenkins' doesn't have label 'gpu'", GPU),
        ("Jenkins doesn’t have label gpu", GPU),
        ("‘Jenkins’ doesn’t have label ‘gpu’; ‘g1’ is offline", GPU),
        ("‘Built-In Node’ doesn’t have label ‘a; b’; ‘other’ doesn’t have label ‘a; b’", Wanted(Atom("a; b"))),
        ("‘a’ is reserved for jobs with matching label expression; ‘b’ doesn’t have label ‘gpu’", GPU),
        ("‘a’ is reserved for jobs with matching label expression", NOTHING),
        ("Waiting for next available executor", NOTHING),
        ("In the quiet period. Expires in 18 sec", NOTHING),
        ("Jenkins is about to shut down", NOTHING),
        ("A build is already in progress", NOTHING),
        ("Build #1 is already in progress (ETA: N/A)", NOTHING),
        ("Blocked by ‘g1’", NOTHING),
        ("Finished waiting", NOTHING),
        ("???", NOTHING),
        ("", NOTHING),
    ],
)
def test_every_reason_is_understood(why, expected):
    assert wanted(why, None, NODES) == expected


@pytest.mark.parametrize(
    "why",
    [
        "",
        "Waiting for next available executor",
        "‘g1’ is offline",
        "Waiting for next available executor on ‘g2’",
        "new",
    ],
)
def test_a_freestyle_jobs_own_label_says_more_than_any_reason(why):
    assert wanted(why, "gpu && !big", NODES) == Wanted(parse("gpu&&!big"))
    assert wanted(why, '"with space"', NODES) == Wanted(Atom("with space"))


@pytest.mark.parametrize(
    "why",
    [
        "In the quiet period. Expires in 18 sec",
        "Jenkins is about to shut down",
        "A build is already in progress",
        "Build #12 is already in progress (ETA:2 sec)",
        "Blocked by lock",
        "Upstream project a » b is already building.",
        "Downstream project c is already building.",
    ],
)
def test_no_node_helps_an_item_that_may_not_run_yet(why):
    assert wanted(why, "gpu", NODES) == NOTHING


def test_a_label_that_is_also_a_nodes_name_is_told_from_the_node():
    busy = "Waiting for next available executor on ‘n1’"
    assert wanted(busy, None, [computer("n1", "a", "b")]) == Wanted(None, "n1")
    assert wanted(busy, None, [computer("n1", "a", "b"), computer("n2", "n1")]) == Wanted(Atom("n1"))


def jenkins_says(text, nodes, quotes, *, busy=False):
    """`why` of an item whose label is `text`, as Queue.BuildableItem.getCauseOfBlockage makes it, and the label."""
    before, after = quotes
    label = parse_assigned(text)
    name = label.name if isinstance(label, Atom) else str(label)
    having = [node.name for node in nodes if label.matches(node.labels)]
    if not having:
        return f"There are no nodes with the label {before}{name}{after}", label
    one = f"{before}{having[0] if len(having) == 1 else name}{after}"
    if busy:
        return f"Waiting for next available executor on {one}", label
    return f"{one} is offline" if len(having) == 1 else f"All nodes of label {one} are offline", label


@given(
    text=LABELS,
    nodes=st.lists(st.builds(lambda name, labels: computer(name, *labels), NODE_NAMES, st.sets(LABELS)), max_size=4),
    quotes=st.sampled_from(["‘’", "''", ("", "")]),
    busy=st.booleans(),
)
def test_what_jenkins_says_of_a_label_leads_back_to_it(text, nodes, quotes, busy):
    assume(len({node.name for node in nodes}) == len(nodes))
    assume(all(quotes) or not quotes_around(text, nodes))
    why, label = jenkins_says(text, nodes, quotes, busy=busy)
    found = wanted(why, None, nodes)
    having = [node for node in nodes if label.matches(node.labels)]
    if len(having) == 1:
        assert found.node == having[0].name
        assert found.expression is None or found.expression.matches(having[0].labels)
    elif isinstance(label, Atom) and parse_name(label.name) != label:
        assert found.expression is not None  # as text such a label is none, and Jenkins itself cannot tell it
    else:
        assert found == Wanted(label)


def quotes_around(text, nodes):
    """Whether a name looks as if it were in quotes, which nobody can tell where Jenkins puts none around names."""
    names = [text, *(node.name for node in nodes)]
    return any(name[:1] + name[-1:] in {"‘’", "''"} for name in names)


@given(st.text(max_size=60) | LABELS, st.none() | LABELS)
def test_any_text_is_taken(why, label_expression):
    assert wanted(why, label_expression, NODES) is not None
