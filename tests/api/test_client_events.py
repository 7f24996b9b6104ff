"""Server-sent events and times per line, for every way the bytes may be cut."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from api.client.events import Event, EventParser, Stamper

AT = "2026-03-01T10:00:00Z"
STREAM = (
    b': keep-alive\n\nevent: log\nid: 5\ndata: {"text":\ndata: "x"}\n\n'
    b"id: 9\r\nevent: end\r\ndata:{}\r\n\r\nevent: none\n\n"
)
EVENTS = [Event("log", 5, '{"text":\n"x"}'), Event("end", 9, "{}")]


@given(st.sets(st.integers(0, len(STREAM))))
def test_events_are_the_same_however_the_stream_is_cut(cuts):
    parser = EventParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    assert [event for start, end in pairwise(edges) for event in parser.feed(STREAM[start:end])] == EVENTS


@given(st.text(alphabet="ab\n\r\u2028\x0b"), st.sets(st.integers(0, 30)))
def test_cuts_within_a_stream_do_not_change_the_lines(text, cuts):
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    whole, cut = Stamper(colours=False), Stamper(colours=False)
    pieces = [cut(text[start:end], "stdout", AT) for start, end in pairwise(edges)]
    assert "".join(pieces) == whole(text, "stdout", AT)


@given(st.lists(st.tuples(st.text(alphabet="a\n", min_size=1), st.sampled_from(["stdout", "stderr", "sibling"]))))
def test_every_line_begins_with_its_time_and_holds_one_stream_only(pieces):
    stamp = Stamper(colours=False)
    lines = "".join(stamp(text.replace("a", stream[-1]), stream, AT) for text, stream in pieces).split("\n")
    assert all(len(set(line[13:])) <= 1 for line in lines)
    assert all(line[2] == line[5] == ":" for line in lines if line)
    assert sum(line.count(":") for line in lines) == 2 * len([line for line in lines if line])


def test_json_text_survives_as_it_is():
    text = 'quote " backslash \\ tab \t \x1b[1m \u2028 é'
    data = json.dumps({"text": text})
    (event,) = EventParser().feed(f"event: log\nid: 1\ndata: {data}\n\n".encode())
    assert json.loads(event.data)["text"] == text
