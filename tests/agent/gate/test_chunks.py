"""Bodies in chunks, however they are cut on their way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gate.chunks import split


def joined(raw, cuts):
    """What is told of bytes that come in pieces which end at `cuts`, and whether that is all."""
    data, rest, ends = b"", b"", [*sorted(cuts), len(raw)]
    for begin, end in zip([0, *ends], ends, strict=False):
        found = split(rest + raw[begin:end])
        data, rest = data + found.data, found.rest
        if found.ended:
            return data, True
    return data, False


def chunked(pieces, last=b"0\r\n\r\n"):
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + last


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_what_is_cut_anywhere_is_joined_to_what_it_was(pieces, data):
    last = data.draw(st.sampled_from([b"0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b"000;x=y\r\n\r\n"]))
    raw = chunked(pieces, last)
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=6))
    assert joined(raw, cuts) == (b"".join(pieces), True)
    assert joined(raw[:-1], cuts) == (b"".join(pieces), False)


@pytest.mark.parametrize("raw", [b"x\r\n", b"\r\n", b"3\r\nabcdef\r\n", b"a" * 2000, b"-1\r\n\r\n"])
def test_what_is_no_chunk_is_told(raw):
    with pytest.raises(ValueError, match=r"."):
        split(raw)
