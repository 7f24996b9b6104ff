"""A relay passes bytes on both ways, with their ends, and answers a refusal as the daemon would."""

import asyncio
import http.client
import json
import socket
import threading

import pytest

from agent.docker_access.relay import Relay
from agent.errors import Rejected
from agent.unix_socket import listen

pytestmark = pytest.mark.anyio


@pytest.fixture
async def echo(tmp_path):
    """A daemon that answers only when all was sent: the number of bytes."""

    async def serve(reader, writer):
        size = 0
        writer.write(b"ready")
        while data := await reader.read(65536):
            size += len(data)
        writer.write(str(size).encode())
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "daemon.sock")
    yield tmp_path / "daemon.sock"
    server.close()


async def test_the_end_of_one_direction_leaves_the_other_open(tmp_path, echo):
    relay = Relay(connect=lambda: asyncio.open_unix_connection(echo))
    await relay.open(listen(tmp_path / "relay.sock", 0o600))
    reader, writer = await asyncio.open_unix_connection(tmp_path / "relay.sock")
    assert await reader.readexactly(5) == b"ready"
    for _ in range(50):
        writer.write(bytes(100_000))
        await writer.drain()
    writer.write_eof()
    assert await reader.read() == b"5000000"
    writer.close()
    await relay.close()


async def test_hanging_up_ends_what_is_under_way(tmp_path, echo):
    relay = Relay(connect=lambda: asyncio.open_unix_connection(echo))
    await relay.open(listen(tmp_path / "relay.sock", 0o600))
    reader, writer = await asyncio.open_unix_connection(tmp_path / "relay.sock")
    assert await reader.readexactly(5) == b"ready"
    await relay.hang_up()
    assert await reader.read() == b""
    with pytest.raises(OSError):
        await asyncio.open_unix_connection(tmp_path / "relay.sock")
    writer.close()


async def test_a_refusal_is_an_answer_also_for_who_asks_late(tmp_path):
    refused = threading.Event()

    async def refuse():
        asyncio.get_running_loop().call_later(0.1, refused.set)
        raise Rejected("grants", "the job x may not")

    relay = Relay(connect=refuse)
    await relay.open(listen(tmp_path / "relay.sock", 0o600))

    def ask():
        connection = http.client.HTTPConnection("docker")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(tmp_path / "relay.sock"))
        refused.wait(10)
        connection.request("GET", "/_ping")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    assert await asyncio.to_thread(ask) == (403, {"message": "Sibling: the job x may not"})
    await relay.close()
