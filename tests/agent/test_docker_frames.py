"""The decoders see bytes cut anywhere, and must neither lose, double nor mix any."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.docker_engine.frames import ChunkDecoder, FrameDecoder
from agent.engine import Stream
from agent.errors import EngineError, EngineUnavailable

FRAMES = st.lists(st.tuples(st.sampled_from([Stream.STDOUT, Stream.STDERR]), st.binary(max_size=40)), max_size=30)


def framed(frames):
    return b"".join(struct.pack(">BxxxI", stream, len(payload)) + payload for stream, payload in frames)


def chunked(chunks):
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + b"0\r\n\r\n"


def cut(data, cuts):
    """The pieces between the cuts, as views of one buffer, as a socket's reads give them."""
    edges = sorted({0, len(data), *(at % (len(data) + 1) for at in cuts)})
    return [memoryview(data)[start:end] for start, end in pairwise(edges)]


class Sink:
    def __init__(self):
        self.writes = []

    def __call__(self, stream, data):
        self.writes.append((stream, bytes(data)))

    def merged(self):
        return merged(self.writes)


def merged(writes):
    """The writes with neighbours of one stream joined."""
    result = []
    for stream, data in writes:
        if result and result[-1][0] == stream:
            result[-1] = (stream, result[-1][1] + data)
        elif data:
            result.append((stream, data))
    return result


@given(frames=FRAMES, cuts=st.lists(st.integers(0, 2000), max_size=20))
def test_frames_come_out_whole_and_in_order_however_they_are_cut(frames, cuts):
    sink = Sink()
    decoder = FrameDecoder(sink)
    for piece in cut(framed(frames), cuts):
        decoder.feed([piece])
    assert decoder.whole
    assert sink.merged() == merged(frames)


@given(
    frames=FRAMES, cuts=st.lists(st.integers(0, 4000), max_size=20), chunks=st.lists(st.integers(0, 2000), max_size=20)
)
def test_frames_in_chunks_come_out_whole_however_both_are_cut(frames, cuts, chunks):
    sink = Sink()
    decoder, body = FrameDecoder(sink), ChunkDecoder()
    for piece in cut(chunked(map(bytes, cut(framed(frames), chunks))), cuts):
        decoder.feed(body.feed(piece))
    assert decoder.whole
    assert body.ended
    assert sink.merged() == merged(frames)


@given(frames=FRAMES.filter(len), missing=st.integers(1, 30))
def test_a_truncated_frame_is_not_whole_unless_it_ends_where_one_ends(frames, missing):
    data = framed(frames)[:-missing]
    ends = {len(framed(frames[:count])) for count in range(len(frames) + 1)}
    decoder = FrameDecoder(Sink())
    decoder.feed([memoryview(data)])
    assert decoder.whole == (len(data) in ends)


def test_many_tiny_frames_of_one_stream_are_one_write_a_read():
    sink = Sink()
    decoder = FrameDecoder(sink)
    data = memoryview(framed([(Stream.STDOUT, b"x")] * 20_000))
    for start in range(0, len(data), 64 * 1024):
        decoder.feed([data[start : start + 64 * 1024]])
    assert decoder.whole
    assert len(sink.writes) == 3
    assert sink.merged() == [(Stream.STDOUT, b"x" * 20_000)]


def test_a_frame_in_one_piece_is_written_without_a_copy():
    written = []
    data = bytearray(framed([(Stream.STDOUT, b"payload")]))
    FrameDecoder(lambda stream, piece: written.append(piece)).feed([memoryview(data)])
    assert written[0].obj is data


def test_a_complaint_of_the_engine_is_an_error_in_its_words():
    sink = Sink()
    data = framed([(Stream.STDOUT, b"first"), (3, b"Error grabbing logs: unexpected EOF\n")])
    with pytest.raises(EngineError, match="Error grabbing logs: unexpected EOF"):
        FrameDecoder(sink).feed([memoryview(data)])
    assert sink.writes == [(Stream.STDOUT, b"first")]


@pytest.mark.parametrize("word", [b"\0\0\0\0", b"\4\0\0\0", b"\1\0\0\1", b"HTTP"])
def test_bytes_that_are_no_frame_are_an_error(word):
    with pytest.raises(EngineError, match="where a frame of output should begin"):
        FrameDecoder(Sink()).feed([memoryview(word + b"\0\0\0\1x")])


def test_what_write_raises_comes_through():
    def full(stream, data):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        FrameDecoder(full).feed([memoryview(framed([(Stream.STDOUT, b"x")]))])


@given(st.binary(max_size=200), st.lists(st.integers(0, 300), max_size=20))
def test_a_body_without_its_last_chunk_never_ends(content, cuts):
    body = ChunkDecoder()
    data = chunked([content]).removesuffix(b"0\r\n\r\n")
    assert b"".join(bytes(part) for piece in cut(data, cuts) for part in list(body.feed(piece))) == content
    assert not body.ended


def test_chunk_extensions_are_skipped():
    body = ChunkDecoder()
    assert [bytes(piece) for piece in body.feed(memoryview(b"3;name=value\r\nabc\r\n0\r\n\r\n"))] == [b"abc"]
    assert body.ended


def test_what_is_no_chunk_is_an_error():
    with pytest.raises(EngineUnavailable, match="no chunk"):
        list(ChunkDecoder().feed(memoryview(b"x" * 200)))
