"""The service finds its volume on the host and in a container, and says what to do where it cannot."""

import dataclasses
from pathlib import Path

import pytest

from agent.data_volume import DataVolume, locate
from agent.engine import Container, MountPoint
from agent.errors import InvalidSettings
from agent.settings import DataSettings


@dataclasses.dataclass
class Engine:
    """Volumes at `mount_point`; containers by id, each with its mounts and the folder that it has at a path."""

    mount_point: Path
    containers: dict[str, tuple[str, list[MountPoint]]] = dataclasses.field(default_factory=dict)
    folders: dict[str, dict[str, Path]] = dataclasses.field(default_factory=dict)
    volumes: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    async def ensure_volume(self, name, labels):
        self.volumes[name] = dict(labels)
        return str(self.mount_point)

    async def list(self, labels):
        assert labels == {"sibling.role": "service"}
        return [
            Container(id=id_, name=id_, state=state, labels=labels, created_at=0)
            for id_, (state, _) in self.containers.items()
        ]

    async def read_file(self, container, path):
        folder = self.folders.get(container, {}).get(str(Path(path).parent))
        file = folder / Path(path).name if folder else None
        return file.read_bytes() if file and file.exists() else None

    async def mounts(self, container):
        return self.containers[container][1]

    def run(self, id_, folder, *mounts, state="running"):
        """A service's container that sees `folder`, a real one, under that same path."""
        self.containers[id_] = (
            state,
            [MountPoint(type=t, source=source, target=target) for t, source, target in mounts],
        )
        self.folders[id_] = {str(folder): folder}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def engine(folder):
    return Engine(folder)


async def refused(engine, **settings):
    with pytest.raises(InvalidSettings) as refusal:
        await locate(engine, DataSettings(**settings))
    return str(refusal.value)


@pytest.mark.anyio
async def test_on_the_host_the_volume_is_made_and_seen_at_its_mount_point(engine, folder):
    assert await locate(engine, DataSettings(volume="v1")) == DataVolume(name="v1", dir=folder)
    assert engine.volumes == {"v1": {"sibling.role": "data"}}
    assert list(folder.iterdir()) == []


@pytest.mark.anyio
async def test_on_the_host_the_mount_point_may_be_named(engine, folder):
    assert await locate(engine, DataSettings(dir=folder)) == DataVolume(name="sibling-data", dir=folder)


@pytest.mark.anyio
async def test_in_a_container_the_name_is_that_of_the_volume_mounted_there(engine, folder, tmp_path):
    (tmp_path / "other").mkdir()
    engine.run("neighbour", tmp_path / "other", ("volume", "wrong", str(tmp_path / "other")))
    engine.run("us", folder, ("bind", "/run/docker.sock", "/run/docker.sock"), ("volume", "compose_data", str(folder)))
    assert await locate(engine, DataSettings(dir=folder)) == DataVolume(name="compose_data", dir=folder)
    assert engine.volumes == {}
    assert list(folder.iterdir()) == []


@pytest.mark.anyio
async def test_a_stopped_container_of_another_service_is_not_asked(engine, folder):
    engine.run("ended", folder, ("volume", "wrong", str(folder)), state="exited")
    assert (await locate(engine, DataSettings(dir=folder))).name == "sibling-data"


@pytest.mark.anyio
async def test_a_bind_mount_is_refused_with_the_cure(engine, folder):
    engine.run("us", folder, ("bind", "/srv/data", str(folder)))
    told = await refused(engine, dir=folder, volume="v1")
    assert "is a bind mount /srv/data" in told
    assert f"`-v v1:{folder}`" in told


@pytest.mark.anyio
async def test_a_volume_mounted_at_another_place_is_told_where(engine, folder):
    engine.run("us", folder, ("volume", "v1", "/var/sibling"))
    told = await refused(engine, dir=folder, volume="v1")
    assert "No volume is mounted" in told
    assert told.endswith("Set data.dir to /var/sibling.")


@pytest.mark.anyio
async def test_a_folder_of_the_container_itself_is_refused(engine, folder):
    engine.run("us", folder, ("volume", "another", "/var/sibling"))
    assert (await refused(engine, dir=folder)).endswith(f"Start it with `-v sibling-data:{folder}`.")


@pytest.mark.anyio
async def test_an_engine_on_another_machine_is_told(engine, tmp_path):
    engine.mount_point = tmp_path / "not" / "here"
    told = await refused(engine)
    assert f"at {tmp_path}/not/here, where this process cannot write: No such file or directory." in told
    assert "on the engine's own host; or in a container there" in told


@pytest.mark.anyio
async def test_a_named_folder_that_is_not_there_is_told(engine, tmp_path):
    assert "cannot write to its data folder" in await refused(engine, dir=tmp_path / "gone")


@pytest.mark.anyio
async def test_a_named_folder_that_is_not_the_volume_s_is_refused(engine, tmp_path):
    told = await refused(engine, dir=tmp_path)
    assert f"data.dir is {tmp_path}, but the engine has the volume sibling-data at {tmp_path}/data." in told
    assert "--label sibling.role=service" in told
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data"]
