"""Before a container is there its workspace and image are, and then they suit the user that it runs as."""

import asyncio
import stat

import pytest

from agent.builds import Reason
from agent.errors import ImageUnavailable, SourceFailed
from agent.phases import Phases
from agent.policy import container_spec
from agent.requests import GitSource, UploadedSource
from agent.stop import Stop, Stopped
from tests.agent.service_steps import Bench
from tests.api.harness import hub
from tests.fakes.memory_engine import MemoryEngine, Script

pytestmark = pytest.mark.anyio
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nbuilder:x:1234:5678::/home/builder:/bin/sh\n"
FILES = {"/etc/passwd": PASSWD, "/etc/group": b"users:x:777:\n"}


class SlowEngine(MemoryEngine):
    """Its pulls never end; `pulling` is set once there is one."""

    def __init__(self, images):
        super().__init__(images)
        self.pulling = asyncio.Event()

    async def pull(self, reference, progress, login=None):
        self.pulling.set()
        await asyncio.Event().wait()


@pytest.fixture
async def bench(tmp_path):
    images = {
        "there": Script(files=FILES),
        "builder": Script(files=FILES, user="builder"),
        "empty": Script(),
        "remote": Script(present=False),
    }
    async with Bench(tmp_path, images).assembled() as bench:
        yield bench


async def prepared(bench, build, *, stop=None, notes=None, phases=None):
    """The image that the build will run in."""
    reference = hub(build.request.image)
    note = (notes if notes is not None else []).append
    return await bench.runner.preparation.prepare(build, reference, stop or Stop(), phases or Phases(), {}, note)


async def given(bench, image, user=None):
    """The owner of the workspace and of a file in it, and the container, once the container's user has it."""
    build = bench.submit(image, **({"user": user} if user else {}))
    found = await prepared(bench, build)
    (bench.workspaces.path(build.id) / "file").write_text("")
    container = await bench.engine.create(
        f"sibling-{build.id}", container_spec(build, bench.settings.builds, bench.service.place)
    )
    await bench.runner.preparation.give_to_user(build, container, found)
    workspace = bench.workspaces.path(build.id)
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (workspace, workspace / "file")}
    assert len(owners) == 1
    return owners.pop(), bench.container(build)


@pytest.mark.parametrize(("image", "user"), [("there", None), ("there", "root"), ("builder", "0:0"), ("empty", "0")])
async def test_root_needs_no_look_into_the_image(bench, image, user):
    owner, _ = await given(bench, image, user)
    assert owner == (0, 0)
    assert not bench.called("read_file")
    assert not bench.called("write_file")


@pytest.mark.parametrize(
    ("image", "user", "owner"),
    [
        ("builder", None, (1234, 5678)),
        ("there", "builder", (1234, 5678)),
        ("there", "1234", (1234, 5678)),
        ("there", "builder:users", (1234, 777)),
        ("there", "0:777", (0, 777)),
    ],
)
async def test_the_workspace_belongs_to_a_user_whom_the_image_knows(bench, image, user, owner):
    assert (await given(bench, image, user))[0] == owner
    assert not bench.called("write_file")


async def test_a_bare_uid_finds_itself_in_passwd(bench):
    owner, container = await given(bench, "there", "4711:12")
    assert owner == (4711, 12)
    assert container.files["/etc/passwd"] == PASSWD + b"build:x:4711:12:build:/tmp/home:/bin/sh\n"


async def test_an_image_without_passwd_gets_one_for_a_bare_uid(bench):
    owner, container = await given(bench, "empty", "4711")
    assert owner == (4711, 0)
    assert container.files["/etc/passwd"] == b"build:x:4711:0:build:/tmp/home:/bin/sh\n"


@pytest.mark.parametrize("user", ["nobody", "builder:nogroup"])
async def test_a_name_that_the_image_does_not_know_is_left_to_the_engine(bench, user):
    owner, container = await given(bench, "there", user)
    assert owner == (0, 0)
    assert container.files == FILES


async def test_an_image_is_looked_into_once_for_each_user(bench):
    for user in ("builder", "builder", "4711", "4711"):
        owner, container = await given(bench, "there", user)
        assert owner == ((1234, 5678) if user == "builder" else (4711, 0))
    assert len(bench.called("read_file")) == 4
    assert container.files["/etc/passwd"].endswith(b":/tmp/home:/bin/sh\n"), "each container is another file system"


async def test_a_passwd_that_is_no_text_does_not_stop_a_build(bench):
    bench.engine.images[hub("empty")] = Script(files={"/etc/passwd": b"\xff\xfe:x:1:1\n\nb:x:y:z\n"})
    assert (await given(bench, "empty", "4711"))[0] == (4711, 0)


@pytest.mark.parametrize(("pull", "pulls"), [("missing", 0), ("never", 0), ("always", 1)])
async def test_an_image_that_is_there_is_pulled_only_if_asked_for(bench, pull, pulls):
    assert (await prepared(bench, bench.submit("there", pull=pull))).id == f"sha256:{hub('there')}"
    assert len(bench.called("pull")) == pulls


async def test_an_image_that_is_not_there_is_pulled_and_the_log_says_so(bench):
    notes, phases = [], Phases()
    image = await prepared(bench, bench.submit("remote"), notes=notes, phases=phases)
    assert image.id == f"sha256:{hub('remote')}"
    assert notes[0].startswith("pulling ")
    assert notes[-1].startswith(f"pulled {hub('remote')} in ")
    assert phases.seconds.keys() == {"pull"}


async def test_an_image_that_must_not_be_pulled_is_an_error(bench):
    with pytest.raises(ImageUnavailable, match="says never to pull it"):
        await prepared(bench, bench.submit("remote", pull="never"))
    assert not bench.called("pull")


async def test_an_image_comes_from_its_registrys_mirror_under_its_own_name(tmp_path):
    mirrored = "mirror.example/hub/library/remote:latest"
    tables = {"hub": {"host": "docker.io", "mirror": "mirror.example/hub"}}
    async with Bench(tmp_path, {}, registries=tables).assembled() as bench:
        bench.engine.images[mirrored] = Script(present=False)
        image = await prepared(bench, bench.submit("remote"))
        assert bench.called("pull") == [mirrored]
        assert image.id == f"sha256:{mirrored}"
        assert (await bench.engine.image(hub("remote"))).id == image.id


@pytest.mark.parametrize("pull", ["missing", "always", "never"])
async def test_an_image_that_a_build_made_is_never_pulled(bench, pull):
    private = "sibling.local/service/build:latest"
    build = bench.submit("there", pull=pull)
    with pytest.raises(ImageUnavailable, match="not kept any more"):
        await bench.runner.preparation.prepare(build, private, Stop(), Phases(), {}, print)
    await bench.engine.tag(hub("there"), private)
    found = await bench.runner.preparation.prepare(build, private, Stop(), Phases(), {}, print)
    assert found.id == f"sha256:{hub('there')}"
    assert bench.called("pull") == []


async def test_a_pull_ends_with_a_cancel(tmp_path):
    async with Bench(tmp_path, {"remote": Script(present=False)}, engine_class=SlowEngine).assembled() as bench:
        stop = Stop()
        preparing = asyncio.create_task(prepared(bench, bench.submit("remote"), stop=stop))
        await bench.engine.pulling.wait()
        stop.ask(Reason.CANCELLED)
        with pytest.raises(Stopped):
            await asyncio.wait_for(preparing, 20)


async def test_the_source_is_in_a_fresh_workspace(bench):
    build = bench.submit("there", source=UploadedSource(id=bench.upload("src/main", b"int main;")))
    (bench.workspaces.make(build.id) / "left behind").write_text("by an earlier attempt")
    phases = Phases()
    await prepared(bench, build, phases=phases)
    workspace = bench.workspaces.path(build.id)
    assert {path.name for path in workspace.iterdir()} == {"src"}
    assert (workspace / "src/main").read_bytes() == b"int main;"
    assert stat.S_IMODE(workspace.stat().st_mode) == 0o755
    assert phases.seconds.keys() == {"source"}


@pytest.mark.parametrize("source", [UploadedSource(id=f"src-{'0' * 32}"), GitSource(url="http://127.0.0.1:9/none.git")])
async def test_a_source_that_is_not_there_is_told_as_such(bench, source):
    with pytest.raises(SourceFailed):
        await prepared(bench, bench.submit("there", source=source))
    assert not bench.called("pull")


async def test_a_cancel_while_the_source_comes_leaves_the_image_alone(bench):
    build, stop = bench.submit("remote", source=UploadedSource(id=bench.upload("file", b"x" * 10**6))), Stop()
    stop.ask(Reason.CANCELLED)
    with pytest.raises(Stopped):
        await prepared(bench, build, stop=stop)
    assert not bench.called("pull")
