"""Reaching the service: every kind of address, every kind of failure as a sentence that says what to do."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from contextlib import closing

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from api.client import address
from api.client.command import default_url
from api.client.connection import Connection, build_path
from api.client.errors import CannotConnect, Refused
from tests.api import client_process
from tests.fakes.build_server import Answer, BuildServer, FakeBuild, Say


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 that vouches for itself: the server's context, and the file a client may trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = built.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "ca.pem").write_bytes(pem)
    (tmp_path / "both.pem").write_bytes(private + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    return context, str(tmp_path / "ca.pem")


def ps(url, *options, **env):
    return client_process.run("ps", "--url", url, *options, env=client_process.environment(**env))


def test_a_unix_socket_carries_a_whole_build(tmp_path):
    (tmp_path / "tree").mkdir()
    with BuildServer(FakeBuild((Say(b"over the socket\n"),)), path=tmp_path / "api.sock") as server:
        source = ("--source", str(tmp_path / "tree"))
        ended = client_process.run("run", "--image", "i", "--url", server.url, *source, "--", "true")
    assert (ended.stdout, ended.returncode) == (b"over the socket\n", 0)


def test_by_default_the_service_is_the_builds_own_if_its_socket_is_there_else_the_machines(tmp_path):
    with BuildServer(path=tmp_path / "api.sock"):
        assert default_url(str(tmp_path / "api.sock")) == f"unix://{tmp_path}/api.sock"
    (tmp_path / "file").touch()
    for path in ("file", "gone", "file/below", "x" * 5000):
        assert default_url(str(tmp_path / path)) == address.DEFAULT_URL


def test_https_works_with_the_ca_that_ssl_cert_file_names_and_only_then(certificate):
    context, ca = certificate
    with BuildServer(tls=context) as server:
        assert ps(server.url, SSL_CERT_FILE=ca).returncode == 0
        refused = ps(server.url)
    assert refused.returncode == 1
    assert b"certificate is not trusted" in refused.stderr
    assert b"SSL_CERT_FILE" in refused.stderr


def test_a_path_of_the_address_goes_before_every_request():
    with BuildServer() as server:
        server.answers["GET /ci/v1/builds"] = [Answer(200, {"builds": [], "next": None})]
        assert ps(f"{server.url}/ci/").returncode == 0


def test_the_address_comes_from_the_environment_too():
    with BuildServer() as server:
        env = client_process.environment(SIBLING_URL=server.url)
        assert client_process.run("ps", env=env).returncode == 0


@pytest.mark.parametrize(
    ("variables", "options", "token"),
    [
        ({}, (), None),
        ({"SIBLING_TOKEN": "sbl_a_env"}, (), "sbl_a_env"),
        ({"SIBLING_TOKEN_FILE": "{file}"}, (), "sbl_a_file"),
        ({"SIBLING_TOKEN": "sbl_a_env", "SIBLING_TOKEN_FILE": "{file}"}, (), "sbl_a_env"),
        ({"SIBLING_TOKEN": "sbl_a_env"}, ("--token-file", "{file}"), "sbl_a_file"),
    ],
)
def test_the_token_comes_from_option_variable_or_file_in_that_order(tmp_path, variables, options, token):
    file = tmp_path / "token"
    file.write_text("sbl_a_file\n")
    with BuildServer() as server:
        variables = {name: value.format(file=file) for name, value in variables.items()}
        assert ps(server.url, *(option.format(file=file) for option in options), **variables).returncode == 0
    assert server.asked[0].headers.get("Authorization") == (f"Bearer {token}" if token else None)


@pytest.mark.parametrize(
    ("content", "sentence"), [("", "holds no token"), ("a b", "holds no token"), (None, "cannot be read")]
)
def test_a_token_file_without_a_token_is_told(tmp_path, content, sentence):
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    ended = ps("http://127.0.0.1:9", "--token-file", str(file))
    assert ended.returncode == 1
    assert sentence in ended.stderr.decode()


def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://127.0.0.1:{port}", "nothing listens there. Is the service running (`sibling serve`)?"),
        ("http://no-such-host.invalid", "no such host is known"),
        ("unix:///no/such/socket", "there is no such socket"),
        ("127.0.0.1:8700", "is not an address"),
        ("ftp://host", "is not an address"),
        ("http://host:99999", "is not an address"),
        ("unix://relative/path", "is not an address"),
        ("http://user:pw@host", "must hold no user name"),
    ],
)
def test_an_address_where_nobody_is_is_told_at_once_with_what_to_do(url, sentence):
    ended = ps(url.format(port=unused_port()))
    assert ended.returncode == 1
    assert sentence in ended.stderr.decode()
    assert ended.stderr.count(b"\n") == 1


def test_something_that_is_not_http_is_told():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with client_process.start("ps", "--url", f"http://127.0.0.1:{listener.getsockname()[1]}") as process:
            peer, _ = listener.accept()
            peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            assert b"does not speak HTTP" in process.stderr.read()
            peer.close()
            assert process.wait(30) == 1


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        (
            Answer(401, {"detail": "No token was given"}),
            ["No token was given.", "--token-file", "sibling token create"],
        ),
        (Answer(403, {"detail": "The scope builds:read is missing"}), ["builds:read is missing."]),
        (Answer(403, {"detail": "Too much", "rule": "builds.max_memory"}), ["Too much (rule builds.max_memory)."]),
        (
            Answer(422, {"title": "Unprocessable", "errors": [{"field": "memory", "message": "not a size"}]}),
            ["Unprocessable.", "\n  memory: not a size"],
        ),
        (Answer(502, b"<html>"), ["The service answered 502 Bad Gateway."]),
        (Answer(500, {"title": None, "errors": "none"}), ["The service answered 500"]),
        (Answer(301, b"", {"Location": "https://other/"}), ["redirects to https://other/"]),
        (Answer(200, b"<html>hello</html>"), ["did not answer JSON"]),
    ],
)
def test_error_answers_are_sentences(answer, parts):
    with BuildServer() as server:
        server.answers["GET /v1/builds"] = [answer]
        ended = ps(server.url)
    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr
    for part in parts:
        assert part in ended.stderr.decode()


def test_a_kept_alive_connection_that_the_service_closed_is_replaced_without_a_word():
    said = []
    with BuildServer() as server, closing(Connection(server.url, say=said.append)) as connection:
        connection.json("GET", "/v1/builds")
        connection._http.sock.shutdown(socket.SHUT_RDWR)
        connection.json("GET", "/v1/builds")
        assert server.connections == 2
    assert said == []


def test_a_service_that_was_there_and_is_gone_is_waited_for_but_not_for_ever():
    said = []
    with closing(Connection("http://127.0.0.1:1", say=said.append, patience=0.2)) as connection:
        with BuildServer() as server:
            connection.address = address.parse(server.url)
            connection.json("GET", "/v1/builds")
        connection.close()
        with pytest.raises(CannotConnect, match="lost and did not come back"):
            connection.json("GET", "/v1/builds")
    assert len(said) == 1


def test_an_error_answer_leaves_the_connection_usable():
    with BuildServer() as server, closing(Connection(server.url)) as connection:
        with pytest.raises(Refused):
            connection.json("GET", "/v1/builds/nosuch")
        connection.json("GET", "/v1/builds")
        assert server.connections == 1


def test_a_reader_that_leaves_a_stream_leaves_the_connection_usable():
    with BuildServer() as server, closing(Connection(server.url)) as connection:
        build = server.add(FakeBuild((Say(b"x" * 100_000), Say(b"y" * 100_000))))
        stream = connection.stream(lambda: (build_path(build.id, "log", follow="true"), {}))
        assert next(stream)
        stream.close()
        assert connection.json("GET", build_path(build.id))["id"] == build.id


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1", True), ("http://127.9.9.9", True), ("http://[::1]:1", True), ("http://localhost", True),
        ("unix:///run/x", True), ("http://10.0.0.1", False), ("https://example.com", False), ("http://[::2]", False),
    ],
)  # fmt: skip
def test_what_counts_as_near(url, local):
    assert address.parse(url).local is local


def test_an_ids_odd_characters_stay_one_part_of_the_path():
    assert build_path("../x?y", "log", start=1) == "/v1/builds/..%2Fx%3Fy/log?start=1"
