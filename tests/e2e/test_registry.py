"""The registry and its proxy of faults do what the other tests take them to do, as the engine sees it."""

import contextlib
import io
import os
import secrets
import subprocess
import tarfile
import time

import docker
import pytest

from tests.e2e.certificate import make_certificate
from tests.e2e.registry import PASSWORD, trusted, write_docker_config
from tests.e2e.registry_proxy import ALWAYS, Fault, FaultProxy, blob_upload, manifest_put

pytestmark = pytest.mark.engine
SIZE = 200_000  # bytes of the image, which nothing makes smaller
DENIED = "denied: the proxy says no"
UNAUTHORIZED = "unauthorized: authentication required"


class Engine:
    """Makes small images and pushes them, as Docker's command line would."""

    def __init__(self, docker_host):
        self.client = docker.DockerClient(base_url=docker_host, version="1.45")

    def close(self):
        self.client.close()

    @property
    def bridge(self):
        """An address of this machine that is not on loopback."""
        return self.client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]

    @contextlib.contextmanager
    def image(self, reference):
        """An image of this name that was never there before; its id."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            member = tarfile.TarInfo("file")
            member.size = SIZE
            tar.addfile(member, io.BytesIO(secrets.token_bytes(SIZE)))
        repository, _, tag = reference.rpartition(":")
        self.client.api.import_image_from_data(content.getvalue(), repository=repository, tag=tag)
        try:
            yield self.client.images.get(reference).id
        finally:
            self.client.images.remove(reference)

    def events(self, reference, user="", password=""):
        """What it says while it pushes. Who stops reading cancels the push."""
        login = {"username": user, "password": password}
        return self.client.api.push(reference, stream=True, decode=True, auth_config=login)

    def push(self, reference, *login):
        """The digest, or the error."""
        *_, last = self.events(reference, *login)
        assert ("aux" in last) != ("error" in last), last
        return last["aux"]["Digest"] if "aux" in last else last["error"]

    def push_until_retry(self, reference):
        """Whether it says that it will try again; then the push is cancelled."""
        events = self.events(reference)
        try:
            return any("Retrying" in event.get("status", "") for event in events)
        finally:
            events.close()


@pytest.fixture(scope="module")
def engine(docker_host):
    made = Engine(docker_host)
    yield made
    made.close()


@pytest.fixture
def proxy(registry):
    with FaultProxy(registry.address) as made:
        yield made


@pytest.fixture
def pushed(proxy, engine):
    """The name at the proxy of an image that is not in the registry, and its repository."""
    repository = f"team/app-{secrets.token_hex(4)}"
    reference = f"{proxy.address}/{repository}:1"
    with engine.image(reference):
        yield reference, repository


class TestRegistry:
    def test_an_image_that_is_pushed_can_be_looked_at_and_pulled(self, registry, engine):
        reference = registry.reference("team/app")
        with engine.image(reference) as image:
            digest = engine.push(reference)
        assert registry.digest("team/app", "1") == digest
        assert registry.tags("team/app") == ["1"]
        assert registry.manifest("team/app", digest)["config"]["digest"] == image
        assert len(registry.blob("team/app", registry.manifest("team/app", "1")["layers"][0]["digest"])) > SIZE
        assert "PUT /v2/team/app/manifests/1" in registry.logs
        engine.client.api.pull(reference)
        assert engine.client.images.get(reference).id == image
        engine.client.images.remove(reference)

    def test_what_is_not_there_is_none(self, registry):
        assert registry.digest("never/pushed", "1") is None
        assert registry.manifest("never/pushed", "1") is None
        assert registry.blob("never/pushed", f"sha256:{'0' * 64}") is None
        assert registry.tags("never/pushed") == []

    def test_an_image_that_is_deleted_is_gone(self, registry, engine):
        with engine.image(registry.reference("team/deleted")):
            digest = engine.push(registry.reference("team/deleted"))
        registry.delete("team/deleted", digest)
        assert registry.digest("team/deleted", "1") is None

    def test_a_stopped_registry_is_down_and_then_has_its_images_at_the_same_address(self, registry_with, engine):
        registry = registry_with()
        reference = registry.reference("team/app")
        with engine.image(reference):
            digest = engine.push(reference)
            registry.stop()
            url = f"http://{registry.address}/v2/"
            assert engine.push(reference) == (f'Get "{url}": dial tcp {registry.address}: connect: connection refused')
        registry.start()
        assert registry.digest("team/app", "1") == digest


class TestUsers:
    @pytest.fixture
    def guarded(self, registry_with):
        return registry_with(users=("ci", "other"))

    def test_a_user_pushes_and_no_one_else_does(self, guarded, engine):
        reference = guarded.reference("team/app")
        with engine.image(reference):
            assert engine.push(reference) == "no basic auth credentials"
            assert engine.push(reference, "ci", "wrong") == UNAUTHORIZED
            assert engine.push(reference, "nobody", PASSWORD) == UNAUTHORIZED
            assert guarded.digest("team/app", "1") is None
            assert engine.push(reference, "other", PASSWORD) == guarded.digest("team/app", "1")

    def test_the_docker_command_logs_in_with_the_folder_that_is_written(self, guarded, engine, tmp_path):
        reference = guarded.reference("team/app")
        with engine.image(reference):
            refused = _docker_push(reference, write_docker_config(tmp_path / "wrong", guarded.address, "ci", "wrong"))
            assert (refused.returncode, refused.stderr.strip()) == (1, UNAUTHORIZED)
            done = _docker_push(reference, write_docker_config(tmp_path / "right", guarded.address, "ci", PASSWORD))
        assert done.returncode == 0, done.stderr
        assert f"1: digest: {guarded.digest('team/app', '1')}" in done.stdout

    def test_a_login_goes_through_the_proxy(self, guarded, engine):
        with FaultProxy(guarded.address) as proxy, engine.image(f"{proxy.address}/team/app:1"):
            digest = engine.push(f"{proxy.address}/team/app:1", "ci", PASSWORD)
        assert guarded.digest("team/app", "1") == digest


class TestCertificates:
    def test_on_loopback_the_engine_trusts_every_certificate(self, registry_with, engine, tmp_path):
        registry = registry_with(certificate=make_certificate(tmp_path))
        with engine.image(registry.reference("team/app")):
            assert engine.push(registry.reference("team/app")) == registry.digest("team/app", "1")

    def test_elsewhere_it_trusts_the_authority_while_that_is_in_its_folder(self, registry_with, engine, tmp_path):
        certificate = make_certificate(tmp_path, engine.bridge)
        registry = registry_with(certificate=certificate, host=engine.bridge)
        reference = registry.reference("team/app")
        unknown = (
            f'Get "https://{registry.address}/v2/": tls: failed to verify certificate: '
            "x509: certificate signed by unknown authority"
        )
        with engine.image(reference):
            assert engine.push(reference) == unknown
            with trusted(registry.address, certificate):
                assert engine.push(reference) == registry.digest("team/app", "1")
            assert engine.push(reference) == unknown

    def test_elsewhere_it_takes_no_registry_that_speaks_http(self, registry_with, engine):
        registry = registry_with(host=engine.bridge)
        with engine.image(registry.reference("team/app")):
            assert engine.push(registry.reference("team/app")).endswith("server gave HTTP response to HTTPS client")


class TestFaults:
    def test_without_one_all_goes_through_the_proxy(self, proxy, pushed, engine, registry):
        reference, repository = pushed
        assert engine.push(reference) == registry.digest(repository, "1")
        assert len([each for each in proxy.requests if each.startswith("PATCH")]) == 2  # the layer, the configuration
        assert proxy.requests[-1] == f"PUT {repository}/manifests/1"

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (401, "unauthorized: the proxy says no"),
            (403, DENIED),
            (429, "toomanyrequests: the proxy says no"),
            (500, "received unexpected HTTP status: 500 Internal Server Error"),
            (503, "received unexpected HTTP status: 503 Service Unavailable"),
        ],
    )
    def test_a_manifest_is_refused_so_often_and_the_engine_does_not_try_again(
        self, proxy, pushed, engine, registry, status, error
    ):
        reference, repository = pushed
        proxy.faults.append(manifest_put(status=status, times=2))
        assert [engine.push(reference) for _ in range(2)] == [error] * 2
        assert registry.digest(repository, "1") is None
        assert engine.push(reference) == registry.digest(repository, "1")

    def test_a_manifest_is_cut(self, proxy, pushed, engine, registry):
        reference, repository = pushed
        proxy.faults.append(manifest_put(cut_after=10))
        assert engine.push(reference) == f'Put "http://{proxy.address}/v2/{repository}/manifests/1": EOF'
        assert registry.digest(repository, "1") is None

    @pytest.mark.parametrize("request_line", [("POST", "/blobs/uploads/"), ("PATCH", "/blobs/uploads/")])
    def test_an_upload_that_is_denied_ends_the_push(self, proxy, pushed, engine, request_line):
        proxy.faults.append(Fault(*request_line, status=403))
        assert engine.push(pushed[0]) == DENIED

    @pytest.mark.parametrize("effect", [{"cut_after": 20_000}, {"status": 503}])
    def test_an_upload_that_always_fails_is_tried_again(self, proxy, pushed, engine, registry, effect):
        reference, repository = pushed
        proxy.faults.append(blob_upload(**effect, times=ALWAYS))
        assert engine.push_until_retry(reference)
        assert registry.digest(repository, "1") is None

    def test_an_upload_that_is_cut_once_succeeds_the_second_time(self, proxy, pushed, engine, registry):
        reference, repository = pushed
        proxy.faults.append(blob_upload(cut_after=20_000))
        assert engine.push(reference) == registry.digest(repository, "1")
        assert len([each for each in proxy.requests if each.startswith("PATCH")]) == 3

    def test_a_configuration_that_is_cut_once_ends_the_push(self, proxy, pushed, engine):
        proxy.faults.extend([Fault("PATCH"), blob_upload(cut_after=100)])  # past the layer
        error = engine.push(pushed[0])
        assert error.startswith(f'Patch "http://{proxy.address}/v2/'), error
        assert error.endswith(": EOF")

    def test_a_slow_network_takes_its_time(self, proxy, pushed, engine, registry):
        reference, repository = pushed
        proxy.faults.append(blob_upload(rate=SIZE * 2))
        start = time.monotonic()
        assert engine.push(reference) == registry.digest(repository, "1")
        assert time.monotonic() - start >= 0.5  # a bound that a busy machine only makes safer

    def test_a_manifest_that_is_asked_for_is_cut(self, proxy, pushed, engine):
        engine.push(pushed[0])
        proxy.faults.append(Fault("GET", "/manifests/", cut_after=20, times=ALWAYS))
        with pytest.raises(docker.errors.APIError, match="unexpected EOF"):
            engine.client.api.pull(pushed[0])


def _docker_push(reference, config):
    environment = {**os.environ, "DOCKER_CONFIG": str(config)}
    return subprocess.run(["docker", "push", reference], env=environment, capture_output=True, text=True, check=False)
