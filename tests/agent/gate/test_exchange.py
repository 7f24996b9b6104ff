"""An answer that nobody reads does not keep what it is made of for ever, nor does a body the turn of others."""

import asyncio
import time

import h11
import pytest

from agent.errors import InvalidRequest
from agent.gate.exchange import MAX_HEADER, Exchange, Reader
from agent.unix_socket import Connections, listen
from tests.turns import turns

REQUEST = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"


async def endless():
    while True:
        yield bytes(100_000)


async def slow():
    for _ in range(3):
        await asyncio.sleep(0.5)  # the engine takes its time; that is nobody's fault
        yield b"piece"


async def relayed(path, pieces, patience, read):
    """How the relay of the pieces ends, to a client that reads them or does not."""
    ended = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        exchange = Exchange(reader, writer, h11.Connection(h11.SERVER))
        await exchange.begin()
        try:
            await exchange.relay(200, pieces, {}, patience)
            ended.set_result(None)
        except OSError as error:
            ended.set_result(type(error))
        finally:
            await exchange.close()

    connections = Connections(serve, Reader)
    await connections.open(listen(path, 0o600))
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(REQUEST)
    try:
        async with asyncio.timeout(10):
            if read:
                await reader.read()
            return await ended
    finally:
        writer.transport.abort()
        await connections.hang_up()


@pytest.mark.parametrize(
    ("pieces", "read", "end"), [(endless, False, ConnectionAbortedError), (slow, True, None)], ids=["unread", "slow"]
)
def test_an_answer_ends_if_it_is_not_read_and_not_if_it_comes_slowly(tmp_path, pieces, read, end):
    assert asyncio.run(relayed(tmp_path / "s", pieces(), 0.2, read)) is end


async def begun(path):
    reader = Reader()
    reader.feed_data(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await Exchange(reader, None, h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER)).begin()


@pytest.mark.parametrize("path", [f"/containers/{'|' * 60_000}/X", f"/volumes/{'a|' * 30_000}/"], ids=["one", "mixed"])
def test_a_long_path_with_an_odd_name_is_read_in_no_time(path):
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="not a path"):
        asyncio.run(begun(path))
    assert time.process_time() - began < 1


async def read_beside(chunks):
    """The pieces of a body that has come in those chunks, and how many times another had its turn meanwhile."""
    reader = Reader()
    reader.feed_data(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    reader.feed_data(b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n")
    exchange = Exchange(reader, None, h11.Connection(h11.SERVER))
    await exchange.begin()
    async with turns() as others:
        pieces = [piece async for piece in exchange.body()]
    return pieces, others.count


def test_many_small_chunks_are_few_pieces_and_others_have_their_turn_between_them():
    pieces, count = asyncio.run(read_beside([b"x"] * 40_000))
    assert b"".join(pieces) == b"x" * 40_000
    assert len(pieces) <= 2  # as often as was read
    assert count >= 40_000 // 250


def test_a_large_chunk_is_one_piece():
    assert asyncio.run(read_beside([b"x" * 100_000]))[0] == [b"x" * 100_000]
