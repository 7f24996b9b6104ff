"""A real image registry (CNCF Distribution, by scripts/registry) as a process of its own, on loopback.

Docker takes every registry on 127.0.0.0/8 for an insecure one: it tries https without looking at the certificate, then
http. So a registry here needs no settings of the engine, by the name localhost neither; but what it says of a
certificate shows only on an address beyond loopback, such as that of the engine's bridge, given as `host`.

What `docker push` says, measured with Engine 26.1.5 on 2026-11-27: `no basic auth credentials` without a login,
`unauthorized: authentication required` with a wrong one, `Get "http://HOST/v2/": dial tcp HOST: connect: connection
refused` when it is down; beyond loopback `Get "https://HOST/v2/": tls: failed to verify certificate: x509: certificate
signed by unknown authority`, and `http: server gave HTTP response to HTTPS client`.
"""

import base64
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import httpx2

from tests.e2e.certificate import Certificate
from tests.e2e.harness import until

PASSWORD = "pass-of-the-registry"  # of every user
# Made by libcrypt's bcrypt, the only hash that the registry takes; no library here makes one.
_HASH = "$2y$04$siblingtestregistryuuuef8JgSX5oPT4D7XJpLN1k.F5wGOATiC"
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
_SCRIPT = Path(__file__).parents[2] / "scripts" / "registry"
_READY = 20  # seconds
_STOP = 10  # seconds


class Registry:
    """Runs while it is entered, with all that it keeps in `folder`. Images may be deleted from it.

    Without `users` everybody may push and pull; with them only they, each with PASSWORD. With a `certificate` it speaks
    https, else http.
    """

    def __init__(
        self,
        folder: Path,
        *,
        users: tuple[str, ...] = (),
        certificate: Certificate | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.host = host
        self.port = free_port(host)
        self.address = f"{host}:{self.port}"
        self.users = users
        self._folder = folder
        self._certificate = certificate
        self._log = folder / "registry.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx2.Client(
            base_url=f"{'https' if certificate else 'http'}://{self.address}/v2/",
            auth=(users[0], PASSWORD) if users else None,
            verify=ssl.create_default_context(cafile=certificate.authority) if certificate else False,
            trust_env=False,
        )

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self._client.close()

    def start(self) -> None:
        """Run, on the same port and with the same images each time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "registry.json"  # JSON is YAML, too
        config.write_text(json.dumps(self._configuration()))
        with self._log.open("ab") as log:
            # Without this process's environment, whose REGISTRY_* would be settings.
            self._process = subprocess.Popen([program(), "serve", str(config)], stdout=log, stderr=log, env={})
        try:
            until(self._answers, _READY, "the registry's start")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, as a registry that is down; nothing is lost."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:  # it lets requests end first
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def logs(self) -> str:
        """What it wrote since the first start: a line for each request."""
        return self._log.read_text()

    def reference(self, repository: str, tag: str = "1") -> str:
        """The name that the engine knows an image there by."""
        return f"{self.address}/{repository}:{tag}"

    def manifest(self, repository: str, reference: str) -> dict | None:
        """What a tag or digest points to, or None: a manifest of Docker's or OCI's, or an index of them."""
        answer = self._ask("GET", f"{repository}/manifests/{reference}")
        return answer and answer.json()

    def digest(self, repository: str, tag: str) -> str | None:
        """The digest that a tag points to, or None."""
        answer = self._ask("HEAD", f"{repository}/manifests/{tag}")
        return answer and answer.headers["Docker-Content-Digest"]

    def blob(self, repository: str, digest: str) -> bytes | None:
        """A layer or an image's configuration, or None."""
        answer = self._ask("GET", f"{repository}/blobs/{digest}")
        return answer and answer.content

    def tags(self, repository: str) -> list[str]:
        """Its tags by name; none for a repository that is not there."""
        answer = self._ask("GET", f"{repository}/tags/list")
        return sorted(answer.json()["tags"] or ()) if answer else []

    def delete(self, repository: str, digest: str) -> None:
        """Delete an image with all its tags."""
        self._client.delete(f"{repository}/manifests/{digest}").raise_for_status()

    def _ask(self, method, path):
        answer = self._client.request(method, path, headers={"Accept": _MANIFESTS})
        return None if answer.status_code == 404 else answer.raise_for_status()

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the registry ended at once:\n{self.logs}")
        with contextlib.suppress(httpx2.TransportError):
            return self._client.get("").is_success
        return False

    def _configuration(self) -> dict:
        http: dict = {
            "addr": self.address,
            "secret": "the same after a restart",
            "relativeurls": True,  # or an upload that begins at a proxy would go on past it
        }
        if self._certificate:
            http["tls"] = {"certificate": str(self._certificate.chain), "key": str(self._certificate.key)}
        made = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": str(self._folder / "storage")},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": http,
        }
        if self.users:
            htpasswd = self._folder / "htpasswd"
            htpasswd.write_text("".join(f"{user}:{_HASH}\n" for user in self.users))
            made["auth"] = {"htpasswd": {"realm": "test", "path": str(htpasswd)}}
        return made


def program() -> str:
    """The registry's program; scripts/test has fetched it before."""
    return subprocess.run([_SCRIPT, "tools"], check=True, capture_output=True, text=True).stdout.strip()


def write_docker_config(folder: Path, address: str, user: str, password: str) -> Path:
    """A folder for $DOCKER_CONFIG with this login."""
    folder.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))
    return folder


@contextlib.contextmanager
def trusted(registry: str, certificate: Certificate):
    """Have the engine on this machine trust the certificate of the registry at this address. Needs root.

    dockerd looks into this folder at each push and pull, so nothing needs a restart. Its place is fixed.
    """
    folder = Path("/etc/docker/certs.d") / registry
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True)
    shutil.copyfile(certificate.authority, folder / "ca.crt")
    try:
        yield
    finally:
        (folder / "ca.crt").unlink()
        for each in made:
            with contextlib.suppress(OSError):  # another test put something into it
                each.rmdir()


def free_port(host: str) -> int:
    with socket.create_server((host, 0)) as taken:
        return taken.getsockname()[1]
