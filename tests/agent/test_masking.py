"""No secret gets into a log, however the output is cut, and nothing else is changed."""

import base64
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.build_log.masking import Masker


def masked(secrets, pieces):
    masker, text, consumed = Masker(secrets), b"", 0
    for piece in pieces:
        more, count = masker.feed(piece)
        text, consumed = text + bytes(more), consumed + count
    more, count = masker.flush()
    assert consumed + count == sum(map(len, pieces))
    return text + more


def cut(data, places):
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def test_without_secrets_the_very_memory_passes():
    data = memoryview(b"anything")
    assert Masker([]).feed(data) == (data, 8)
    assert Masker([]).feed(data)[0] is data


@pytest.mark.parametrize("at", range(1, 20))
def test_a_secret_is_masked_wherever_it_is_cut(at):
    text = b"before hunter2! after"
    assert masked(["hunter2!"], [text[:at], text[at:]]) == b"before **** after"


@pytest.mark.parametrize(
    "form",
    [
        "pass word/+&ü",
        base64.b64encode("pass word/+&ü".encode()).decode(),
        base64.urlsafe_b64encode("pass word/+&ü".encode()).decode(),
        "pass%20word%2F%2B%26%C3%BC",
        "pass+word%2F%2B%26%C3%BC",
    ],
)
def test_the_usual_ways_to_write_a_secret_are_masked(form):
    assert masked(["pass word/+&ü"], [b"x", form.encode(), b"y"]) == b"x****y"


def test_each_line_of_a_key_is_masked_but_not_what_is_too_short_to_tell():
    key = "-----BEGIN-----\nabcdef\nx\n-----END-----\n"
    assert masked([key], [b"-----BEGIN-----\r\nabcdef\r\nx\r\n"]) == b"****\r\n****\r\nx\r\n"


def test_the_longest_of_several_is_taken_even_if_it_comes_late():
    assert masked(["abc", "abcdef"], [b"1abc", b"def2"]) == b"1****2"
    assert masked(["abc", "abcdef"], [b"1abc", b"deX2"]) == b"1****deX2"
    assert masked(["abc", "abcdef"], [b"1abc"]) == b"1****"


def test_nothing_is_held_back_that_cannot_become_a_secret():
    masker = Masker(["hunter2"])
    assert masker.feed(b"progress 10%") == (b"progress 10%", 12)
    assert masker.feed(b"hunt") == (b"", 0)
    assert masker.feed(b"ing") == (b"hunting", 7)


secret = st.text(alphabet="ab", min_size=1, max_size=6)


@given(st.lists(secret, min_size=1, max_size=4), st.text(alphabet="abc", max_size=60), st.lists(st.integers(0, 99)))
def test_the_cuts_make_no_difference_and_no_secret_survives(secrets, text, places):
    data = text.encode()
    once = masked(secrets, [data])
    assert masked(secrets, cut(data, places)) == once
    for piece in re.split(rb"\*{4}", once):
        assert not any(each.encode() in piece for each in secrets)


@given(st.binary(max_size=200), st.lists(st.integers(0, 999)))
def test_text_without_the_secret_is_not_changed(data, places):
    assert masked(["\u2603 never in there"], cut(data, places)) == data.replace("☃ never in there".encode(), b"****")


def test_repeated_characters_cost_no_more_than_their_length():
    """A quadratic search would take hours for this."""
    masker = Masker(["a" * 60_000 + "b"])
    out = sum(len(masker.feed(b"a" * 65_536)[0]) for _ in range(50))
    assert out >= 50 * 65_536 - 60_001
