"""The Docker sockets of builds, as far as they need no engine."""

import asyncio
from types import SimpleNamespace

import pytest

from agent.build_sockets import DOCKER_NAME, BuildSockets
from agent.docker_access.access import DockerAccess
from agent.errors import AgentError, NotFound
from agent.metrics import Metrics
from agent.settings import Settings

pytestmark = pytest.mark.anyio
ID = "01m2x7k3q8v5w9y1z4a6b8c0de"
BUILD = SimpleNamespace(id=ID, container=SimpleNamespace(docker="host"))


class Nobody:
    """A store without builds."""

    def get(self, build_id):
        raise NotFound(f"no build {build_id}")


@pytest.fixture
async def access(tmp_path):
    (tmp_path / "workspaces" / ID).mkdir(parents=True)
    sockets = BuildSockets(folder=tmp_path / "sockets", server=None)
    await sockets.open(ID)
    made = DockerAccess(
        engine=None,
        sockets=sockets.folder,
        gates=None,
        daemons=SimpleNamespace(ends=lambda _: None),
        workspaces=SimpleNamespace(path=lambda build_id: tmp_path / "workspaces" / build_id),
        store=Nobody(),
        settings=Settings(),
        metrics=Metrics(),
    )
    yield made
    await made.hang_up_all()


async def connects():
    """Whether somebody answers there, with a refusal, as nobody knows the build; by a short path."""
    try:
        reader, writer = await asyncio.open_unix_connection(DOCKER_NAME)
    except OSError:
        return False
    writer.write(b"GET /_ping HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return b"403 Forbidden" in answer


async def test_a_run_that_begins_once_more_has_its_socket_again(access, monkeypatch):
    monkeypatch.chdir(access.sockets / ID)
    for _ in range(2):
        await access.open(BUILD, "sibling-x", print)
        await access.open(BUILD, "sibling-x", print)
        assert await connects()
        await access.hang_up(ID)
        assert not await connects()


async def test_the_socket_is_its_users_alone(access):
    await access.open(BUILD, "sibling-x", print)
    there = (access.sockets / ID / DOCKER_NAME).stat()
    workspace = access.workspaces.path(ID).stat()
    assert (there.st_mode & 0o777, there.st_uid, there.st_gid) == (0o600, workspace.st_uid, workspace.st_gid)


async def test_what_cannot_be_opened_is_told_with_the_build(access):
    access.workspaces.path(ID).rmdir()
    with pytest.raises(AgentError, match=f"Docker socket of build {ID} could not be opened"):
        await access.open(BUILD, "sibling-x", print)
