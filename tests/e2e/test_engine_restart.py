"""The engine is stopped and started in mid-build: no wrong SUCCESS, a reason in the log, and the service goes on."""

import asyncio
import os
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path

import docker
import pytest
import requests

from agent.errors import EngineError
from agent.gate import removal
from agent.gate.journal import Journal
from agent.gate.upstream import Upstream
from tests.e2e.harness import BUSYBOX, until

pytestmark = pytest.mark.engine
SCRIPTS = Path(__file__).parents[2] / "scripts"


class Engine:
    """A throw-away engine beside the one that the other tests use."""

    def __init__(self):
        self._environment = {**os.environ, "SIBLING_ENGINE_NAME": "restarted"}
        self._environment.pop("DOCKER_HOST", None)
        self.host = self.do("up").splitlines()[-1]
        self._environment["DOCKER_HOST"] = self.host
        subprocess.run([SCRIPTS / "test-images"], env=self._environment, check=True)
        del self._environment["DOCKER_HOST"]

    def do(self, verb):
        done = subprocess.run([SCRIPTS / "engine", verb], env=self._environment, check=True, stdout=subprocess.PIPE)
        return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def engine():
    made = Engine()
    yield made
    made.do("down")


@pytest.mark.parametrize("way", ["restart", "kill"])
def test_a_build_that_dies_with_the_engine_is_no_success_and_says_why(service_with, engine, way):
    service = service_with(docker_host=engine.host)
    build_id = service.post(commands=["trap 'exit 0' TERM", "echo up", "while :; do sleep 0.1; done"])
    until(lambda: service.text_now(build_id))
    engine.do(way)
    engine.do("up")
    build = service.wait(build_id)
    assert build["result"] == "FAILURE", build
    log = service.text(build_id)
    assert log.startswith(b"up\n")
    assert b"[sibling] FAILURE: " in log
    after = service.run(commands=["echo again"])
    assert service.text(after["id"]) == b"again\n", "the service must go on with the engine that came back"
    service.assert_nothing_left()


def test_while_the_engine_is_away_builds_wait_and_readyz_says_so(service_with, engine):
    service = service_with(docker_host=engine.host)
    until(lambda: service.client.get("/readyz").status_code == 200, what="readiness")
    engine.do("kill")

    def unready():
        answer = service.client.get("/readyz")
        checks = {each["name"]: each for each in answer.json()["checks"]}
        return None if checks["engine"]["ok"] else (answer.status_code, checks["engine"]["reason"])

    status, reason = until(unready, what="unreadiness")
    assert status == 503
    assert "docker.sock" in reason
    build_id = service.post(commands=["echo hi"])
    assert service.build(build_id)["state"] == "queued"
    engine.do("up")
    assert service.wait(build_id)["result"] == "SUCCESS"
    until(lambda: service.client.get("/readyz").status_code == 200, what="readiness")
    service.assert_nothing_left()


@contextmanager
def journal_at(file):
    journal = Journal(file)
    try:
        yield journal
    finally:
        journal.delete()


def test_a_container_that_the_engine_has_locked_keeps_nothing_else_of_a_build(engine, tmp_path, monkeypatch):
    upstream = Upstream.at(engine.host)
    pipe = ["sh", "-c", "rm /etc/passwd; mkfifo /etc/passwd; exit 1"]
    with closing(docker.DockerClient(base_url=engine.host)) as client, journal_at(tmp_path / "journal") as journal:
        policy = {"Name": "on-failure", "MaximumRetryCount": 1}
        locked = client.containers.run(BUSYBOX, pipe, detach=True, restart_policy=policy).id
        other = client.containers.run(BUSYBOX, ["sleep", "900"], detach=True).id
        for each in (locked, other):
            journal.add("container", each)
        until(lambda: _is_locked(engine, locked), 60, "the engine at its second start")
        with monkeypatch.context() as patched:
            patched.setattr(removal, "_DEADLINES", (10.0, 0.5))
            with pytest.raises(EngineError, match=f"{locked}: the engine does not answer"):
                asyncio.run(removal.remove_all(upstream, journal, "locked", settle=False))
        left = {each["Id"] for each in client.api.containers(all=True)}
        assert {locked, other} & left == {locked}
        engine.do("kill")
        engine.do("up")
        asyncio.run(removal.remove_all(upstream, journal, "locked", settle=False))
        assert locked not in {each["Id"] for each in client.api.containers(all=True)}


def _is_locked(engine, container):
    """Whether the engine says nothing of it."""
    with closing(docker.APIClient(engine.host, timeout=2)) as client:
        try:
            client.inspect_container(container)
        except requests.exceptions.ReadTimeout:
            return True
    return False
