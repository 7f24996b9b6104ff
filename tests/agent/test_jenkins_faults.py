"""JenkinsController when the controller, or the way to it, fails: nothing else is taken for an answer of Jenkins'."""

import datetime as dt
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.errors import ControllerError, ControllerRefused, ControllerUnavailable, NodeExists
from agent.jenkins_controller import JenkinsController
from tests.agent.jenkins_steps import READS, VERBS, WRITES, connect, simulated

pytestmark = pytest.mark.anyio

each_verb = pytest.mark.parametrize(("line", "verb"), VERBS.values(), ids=VERBS)


@pytest.fixture
def simulator():
    with simulated() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def broken():
    """One for tests in which nothing but faults answers."""
    with simulated() as simulator:
        yield simulator


@pytest.fixture
async def controller(simulator):
    controller = connect(simulator)
    yield controller
    await controller.close()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"drop": True}, r"no answer from the controller at {url} \(Remote end closed connection without response\)"),
        ({"delay": 30}, r"no answer from the controller at {url} \(timed out\)"),
        ({"status": 500, "body": "<title>Oops!</title>"}, r"{url} answered with HTTP 500 \(Oops!\)"),
        ({"status": 502, "body": "<html><head><title>502 Bad\nGateway</title>"}, r"HTTP 502 \(502 Bad Gateway\)"),
        ({"status": 503, "body": "<title>Starting Jenkins</title>"}, r"HTTP 503 \(Starting Jenkins\)"),
        ({"status": 504}, r"HTTP 504 \(Gateway Timeout\)"),
        ({"status": 404, "body": "default backend - 404"}, r"HTTP 404, and not as a Jenkins does \(Not Found\)"),
        ({"status": 403, "body": "<title>Blocked</title>"}, r"HTTP 403, and not as a Jenkins does \(Blocked\)"),
        ({"status": 301, "headers": {"Location": "https://ci.example/"}}, "redirect to https://ci.example/"),
        ({"status": 307, "headers": {"Location": "https://ci.example/"}}, "redirect to https://ci.example/"),
        (
            {"status": 302, "headers": {"Location": "https://sso.example/login?to=x"}},
            "redirect to https://sso.example/",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
@each_verb
async def test_no_answer_of_jenkins_is_told_as_such(broken, line, verb, fault, sentence):
    broken.faults.clear()
    controller = connect(broken, timeout=0.1 if "delay" in fault else 5)
    if line == "POST /queue/cancelItem":
        broken.faults.add("GET /queue/item/1/", times=None, **fault)
    broken.faults.add(line.replace("?", "[?]"), times=None, **fault)
    with pytest.raises(ControllerUnavailable, match="could not .*" + sentence.format(url=broken.url)) as error:
        await verb(controller)
    assert broken.token not in str(error.value)
    await controller.close()


@pytest.mark.parametrize(("line", "verb"), WRITES.values(), ids=WRITES)
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"status": 302, "headers": {"Location": "https://ci.example{path}"}}, "redirect to https://ci.example/"),
        ({"status": 200, "body": "<title>Please log in</title>"}, r"none of Jenkins' \(Please log in\)"),
    ],
    ids=["to https", "a page"],
)
async def test_a_form_that_jenkins_did_not_get_is_not_taken_for_done(broken, line, verb, fault, sentence):
    broken.faults.clear()
    headers = {name: value.format(path=line.split()[1]) for name, value in fault.get("headers", {}).items()}
    broken.faults.add(line, **fault | {"headers": headers})
    controller = connect(broken)
    with pytest.raises(ControllerUnavailable, match=sentence):
        await verb(controller)
    await controller.close()


@pytest.mark.parametrize(
    "body", ["<title>Sign in</title>", "[]", "{}", '{"items": 1, "computer": [{}]}', '{"items": [', "\xff"]
)
@pytest.mark.parametrize(("line", "verb"), READS.values(), ids=READS)
async def test_what_is_no_answer_to_the_question_is_told_as_such(broken, line, verb, body):
    broken.faults.clear()
    broken.faults.add(line, status=200, body=body)
    controller = connect(broken)
    with pytest.raises(ControllerUnavailable, match=f"could not .*{broken.url} (answered with|is no Jenkins)"):
        await verb(controller)
    await controller.close()


async def test_an_odd_place_to_go_on_to_is_no_matter(simulator, controller):
    simulator.faults.add(
        "POST /computer/n/doDelete", status=302, headers={"Location": "/computer/\xff\xfe/"}, after=True
    )
    await controller.delete_node("n")
    assert "n" not in simulator.nodes


@contextmanager
def raw_server(answer, pause=0.0, tls=None):
    """Sends this to whoever asks, its body byte by byte if there is to be a `pause` between."""
    over = threading.Event()

    def serve():
        with suppress(OSError), listening, listening.accept()[0] as bare:
            connection = tls.wrap_socket(bare, server_side=True) if tls else bare
            connection.recv(65536)
            head, end, body = answer.partition(b"\r\n\r\n")
            connection.sendall(head + end)
            for part in [body[at : at + 1] for at in range(len(body))] if pause else [body]:
                connection.sendall(part)
                over.wait(pause)
            connection.close()

    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    yield "{}://127.0.0.1:{}/".format("https" if tls else "http", listening.getsockname()[1])
    over.set()
    thread.join()


@pytest.mark.parametrize(
    ("answer", "pause", "sentence"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", 0, "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", 0, "no answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 0, "no answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + b" " * 99, 0.1, "the answer came too slowly"),
        (b"SSH-2.0-OpenSSH_9\r\n", 0, "no answer"),
    ],
    ids=["cut", "cut chunk", "no gzip", "drop by drop", "no HTTP"],
)
async def test_an_answer_that_does_not_come_in_full_or_in_time_is_none(answer, pause, sentence):
    with raw_server(answer, pause) as url:
        controller = JenkinsController(url, user="u", token=lambda: "t", timeout=0.5)
        with pytest.raises(ControllerUnavailable, match=sentence):
            await controller.queue()
        await controller.close()


async def test_after_a_lost_answer_the_node_may_be_there(simulator, controller):
    simulator.faults.add("doCreateItem", drop=True, after=True)
    with pytest.raises(ControllerUnavailable):
        await VERBS["create_node"][1](controller)
    with pytest.raises(NodeExists, match=r"Agent called .*new.* already exists"):
        await VERBS["create_node"][1](controller)


async def test_a_failed_cancelling_is_told_unless_the_item_left(simulator, controller):
    fault = simulator.faults.add("POST /queue/cancelItem", times=2, status=500)
    with pytest.raises(ControllerUnavailable, match=r"could not cancel queue item 1: .* HTTP 500"):
        await controller.cancel_item(1)
    simulator.cancel(1)
    await controller.cancel_item(1)
    assert fault.hits == 2


async def test_a_restarted_controller_is_found_again(simulator, controller):
    before = await controller.info()
    simulator.stop()
    with pytest.raises(ControllerUnavailable, match="refused"):
        await controller.queue()
    simulator.start(starting=0.3, unauthorized=0.3, wait=False)
    told = set()
    while True:
        try:
            after = await controller.info()
        except ControllerError as error:
            told.add((type(error), str(error)[-40:]))
        else:
            break
    assert {kind for kind, _ in told} == {ControllerUnavailable, ControllerRefused}
    assert after.session != before.session
    assert await controller.queue()


async def test_nothing_is_asked_while_it_is_about_to_shut_down_but_that_is_told(simulator, controller):
    simulator.quiet_down("maintenance")
    assert (await controller.info()).quieting_down
    assert (await controller.queue())[0].why == "Jenkins is about to shut down"


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 that vouches for itself: the server's context, and the file to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    valid = (now - dt.timedelta(days=1), now + dt.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, *valid).add_extension(address, critical=False)
    pem = built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (tmp_path / "ca.pem").write_bytes(pem)
    (tmp_path / "both.pem").write_bytes(private + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    return context, tmp_path / "ca.pem"


@pytest.mark.parametrize("checking", ["0", "1"])
async def test_a_certificate_is_checked_against_the_file_that_is_given(certificate, monkeypatch, checking):
    monkeypatch.setenv("PYTHONHTTPSVERIFY", checking)  # python-jenkins would obey it
    tls, ca_file = certificate
    for trusted, why in ((None, "certificate verify failed"), (ca_file, "")):
        with raw_server(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"items":[]}', tls=tls) as url:
            controller = JenkinsController(url, user="u", token=lambda: "t", ca_file=trusted, timeout=5)
            if trusted:
                assert await controller.queue() == []
            else:
                with pytest.raises(ControllerUnavailable, match=why):
                    await controller.queue()
            await controller.close()
