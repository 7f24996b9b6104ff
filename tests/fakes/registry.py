"""A container registry on loopback that holds one image of one small layer, as much as a pull asks for."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_UNKNOWN = json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}).encode()


class Registry:
    """Serves while it is entered; `reference` names the image, which holds the file /made-by of `content`.

    It pauses for so many seconds in the middle of each answer. With a login, `user:password`, it answers nobody else.
    """

    def __init__(self, content: bytes, pause: float = 0, login: str | None = None) -> None:
        self._pause = pause
        self._login = login and f"Basic {base64.b64encode(login.encode()).decode()}"
        layer = _tar("made-by", content)
        packed = gzip.compress(layer, mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"User": "builder"},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _described(_CONFIG, config),
                "layers": [_described(_LAYER, packed)],
            }
        ).encode()
        self.blobs = {_digest(blob): blob for blob in (config, packed, manifest)}
        self.blobs["1"] = manifest
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.reference = f"127.0.0.1:{self._server.server_port}/sibling-test/pulled:1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def _handler(self):
        blobs, pause, login = self.blobs, self._pause, self._login

        class Handler(BaseHTTPRequestHandler):
            # BuildKit tries TLS first, and plain HTTP only if the answer to that begins with HTTP/.
            default_request_version = "HTTP/1.1"

            def do_GET(self):
                if login is not None and self.headers["Authorization"] != login:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="test"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                name = self.path.rpartition("/")[2]
                content = blobs.get(name, _UNKNOWN)
                self.send_response(200 if name in blobs or self.path == "/v2/" else 404)
                self.send_header("Content-Type", _MANIFEST if "/manifests/" in self.path else "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Docker-Content-Digest", _digest(content))
                self.end_headers()
                if self.command == "GET":
                    half = len(content) // 2
                    self.wfile.write(content[:half])
                    time.sleep(pause)
                    self.wfile.write(content[half:])

            do_HEAD = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_):
                """Say nothing."""

        return Handler


def _tar(name, content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _digest(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _described(media_type, content):
    return {"mediaType": media_type, "size": len(content), "digest": _digest(content)}
