"""Whatever the bytes are like, what a gate says it did is what the engine did: no request hides in another one."""

import http.client
import json
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.gate_process import GateProcess

pytestmark = pytest.mark.engine
LINE = b"POST /v1.45/volumes/create HTTP/1.1\r\n"


@pytest.fixture(scope="module")
def gate(docker_host):
    opened = GateProcess(docker_host, "framing").start()
    yield opened
    opened.destroy()


def whole(name):
    """A request that a gate does."""
    body = b'{"Name":"%s"}' % name
    return LINE + b"Host: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def _mostly(usual, *others):
    return st.one_of(st.just(usual), st.just(usual), st.sampled_from(others))


@st.composite
def requests(draw, name):
    """A request to make a volume, with another one inside of its body, framed in ways that parsers disagree on."""
    body = b'{"Name":"%s"}' % name + draw(st.sampled_from([b"", b"", b"\r\n", whole(b"inner" + name)]))
    end = draw(_mostly(b"\r\n", b"\n", b"\r", b"\r\r\n"))
    length = len(body) + draw(_mostly(0, -5, 5, 100))
    chunked = draw(st.booleans())
    lengths = [
        b"%d" % length,
        b"+%d" % length,
        b" %d " % length,
        b"0%d" % length,
        b"%d, %d" % (length, length),
        b"0x1",
        b"-1",
    ]
    codings = [b"chunked", b"Chunked", b"identity", b"chunked, identity", b"xchunked", b"\x0bchunked", b"chunked;q=1"]
    names = [b"Content-Length: ", b"Content-Length : ", b"content-length:", b" Content-Length: ", b"Content_Length: "]
    fields = draw(
        st.lists(
            st.one_of(
                st.tuples(st.sampled_from(names), st.sampled_from(lengths)),
                st.tuples(st.sampled_from([b"Transfer-Encoding: ", b"Transfer-Encoding : "]), st.sampled_from(codings)),
                st.sampled_from(
                    [(b"X: a", b"\r\n b"), (b"Expect: ", b"100-continue"), (b"Connection: ", b"keep-alive")]
                ),
            ),
            max_size=draw(_mostly(0, 3)),
        )
    )
    if draw(st.booleans()):
        fields = [(b"Transfer-Encoding: ", b"chunked") if chunked else (b"Content-Length: ", b"%d" % length), *fields]
    if chunked:
        size = draw(_mostly(b"%x", b"%X;a=b", b"0%x", b"+%x", b" %x", b"%x\t")) % length
        body = size + draw(_mostly(b"\r\n", b"\n")) + body + b"\r\n0\r\n\r\n"
    line = draw(_mostly(LINE, LINE.replace(b"1.1", b"1.0"), LINE.replace(b" HTTP", b"  HTTP"), b"\r\n" + LINE))
    return line + b"Host: x" + end + b"".join(field + value + end for field, value in fields) + end + body


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(requests(b"va"), requests(b"vb")))
def test_a_volume_is_there_for_each_time_the_gate_says_so(gate, both):
    answer = gate.send(b"".join(both))
    there = gate.client.volumes.list()
    for volume in there:
        volume.remove()
    # A name that is there already is answered with, and not made again.
    said = answer.count(b"HTTP/1.1 201 ")
    assert len(there) <= said <= 4, answer
    assert (said > 0) == (len(there) > 0), answer


def test_what_is_no_request_is_told_after_a_head_too(gate):
    """Clients look first at what they talk with, by a HEAD on the same connection."""
    connection = http.client.HTTPConnection("docker")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(str(gate.socket))
    connection.request("HEAD", "/_ping")
    assert connection.getresponse().read() == b""
    connection.request("GET", "/containers/../json")
    assert "is not a path" in json.loads(connection.getresponse().read())["message"]
    connection.close()
