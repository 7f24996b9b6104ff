"""An issuer of id tokens, as Jenkins with oidc-provider is: keys, tokens, and a real server for its two documents."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

JOB = "https://jenkins.example/job/team/job/app/"
AUDIENCE = "sibling"


def number(value: int, *, java: bool = False) -> str:
    """Base64 as RFC 7518 has it; or Java's BigInteger in the other alphabet, as the plugin writes coordinates."""
    if java:
        return base64.b64encode(value.to_bytes(value.bit_length() // 8 + 1)).decode()
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8)).rstrip(b"=").decode()


class SigningKey:
    """A key pair, of which the issuer publishes one half."""

    def __init__(self, kid: str | None = "sibling", algorithm: str = "RS256", *, bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: Any = (
            ec.generate_private_key(ec.SECP256R1())
            if algorithm == "ES256"
            else rsa.generate_private_key(public_exponent=65537, key_size=bits)
        )

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Its public half, as the plugin writes it."""
        numbers = self.private.public_key().public_numbers()
        if self.algorithm == "ES256":
            x, y = number(numbers.x, java=True), number(numbers.y, java=True)
            material = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        else:
            material = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        named = {} if self.kid is None else {"kid": self.kid}
        return {**material, **named, "use": "sig", "alg": self.algorithm, **changes}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        named = {} if self.kid is None else {"kid": self.kid}
        return jwt.encode(claims, self.private, self.algorithm, {**named, **header})


def claims(issuer: str, **changes: Any) -> dict[str, Any]:
    """Those of the plugin for build 7 of `JOB`; a change to None leaves the claim out."""
    now = int(time.time())
    usual = {"iss": issuer, "aud": AUDIENCE, "iat": now, "exp": now + 3600, "sub": JOB, "build_number": 7}
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


class IssuerServer(ThreadingHTTPServer):
    """Serves `/oidc/.well-known/openid-configuration` and `/oidc/jwks`; `asked` are the paths, in order.

    `answers` replaces what a path answers: status, headers and body, or a function that writes to the connection.
    """

    daemon_threads = True

    def __init__(self, *keys: SigningKey, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._tls = tls
        self.keys = list(keys)
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, dict[str, str], bytes] | Callable[[Any], None]] = {}
        self.issuer = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_address[1]}/oidc"
        self.released = threading.Event()  # for answers that wait

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()

    def token(self, key: SigningKey | None = None, **changes: Any) -> str:
        """An id token of build 7 of `JOB`."""
        return (key or self.keys[0]).sign(claims(self.issuer, **changes))

    def jwks(self) -> bytes:
        return json.dumps({"keys": [key.jwk() for key in self.keys]}).encode()

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up on a slow answer are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: IssuerServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path) or self._usual()
        if callable(answer):
            answer(self)
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _usual(self) -> tuple[int, dict[str, str], bytes]:
        issuer = self.server.issuer
        if self.path == "/oidc/.well-known/openid-configuration":
            return 200, {}, json.dumps({"issuer": issuer, "jwks_uri": f"{issuer}/jwks"}).encode()
        return (200, {}, self.server.jwks()) if self.path == "/oidc/jwks" else (404, {}, b"")

    def log_message(self, *_: object) -> None:
        pass
