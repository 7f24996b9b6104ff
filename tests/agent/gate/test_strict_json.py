"""What the gate takes for JSON is what every parser takes it for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidRequest
from agent.gate import strict_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(exclude_characters="\0", codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_what_is_plain_is_read_and_written_as_it_is(value):
    assert strict_json.parse(strict_json.emit(value)) == value
    assert strict_json.emit(value).isascii()


@pytest.mark.parametrize(
    "text",
    [
        *(
            '{"a":1,"a":2}',
            '{"a":1,"A":2}',
            '{"s":1,"\u017f":2}',
            '{"k":1,"\u212a":2}',
            '{"x":{"y":1,"Y":1}}',
            "{} {}",
            "{}x",
        ),
        *(
            "",
            "{",
            "[1,]",
            "{'a':1}",
            "NaN",
            "[Infinity]",
            "-Infinity",
            "1e400",
            '{"a":-1e400}',
            str(2**63),
            "[" + "9" * 5000 + "]",
            "1e99999999x",
        ),
        *('"\\ud800"', '"a\\u0000b"', '{"a\\u0000":1}', "[" * 70 + "]" * 70, "[" * 100_000 + "]" * 100_000, "// a\n{}"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text):
    with pytest.raises(InvalidRequest):
        strict_json.parse(text.encode("utf-8", "surrogatepass"))


def test_it_has_a_most_size_and_must_be_utf8():
    assert strict_json.parse(json.dumps("x" * (strict_json.MAX - 2)).encode())
    with pytest.raises(InvalidRequest, match="over"):
        strict_json.parse(json.dumps("x" * strict_json.MAX).encode())
    with pytest.raises(InvalidRequest):
        strict_json.parse(b'{"a":"\xff"}')
