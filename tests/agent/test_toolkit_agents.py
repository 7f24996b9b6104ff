"""An agent runs on our own Java in any image, keeps its secret, and ends when it is told to."""

import json
import os
import time
from pathlib import Path

import pytest

from agent import toolkit
from agent.busybox import find_static_busybox
from agent.errors import AgentError
from agent.toolkit import agents
from agent.toolkit.agent_command import HIDDEN
from api.client_zipapp import zipapp
from tests.agent.agent_steps import SECRET, agent_task, another, share_runtime
from tests.conftest import BUSYBOX

IMAGES = ["busybox", "entrypoint", "user", "nopasswd", "static", "debian"]
ARCHIVED = f"{toolkit.WORKSPACE}/{agents.ARCHIVE}"
NOT_WHOLE = "[sibling] the archive of the agent's classes is not whole, and not kept"


def on_the_engine(test):
    return pytest.mark.engine(pytest.mark.anyio(test))


@on_the_engine
@pytest.mark.parametrize("image", IMAGES)
async def test_an_agent_runs_in_any_image_and_starts_programs_there(containers, image):
    code, lines, errors = await containers.run(f"sibling-test/{image}:1", agent_task())
    assert (code, errors) == (0, [])
    assert lines[:9] == [
        *("argument -url", "argument http://jenkins/", "argument -name", "argument ends"),
        *("argument -secret", "argument @/tmp/.sibling-secret", "argument -webSocket"),
        *("argument -workDir", "argument /workspace"),
    ]
    assert f"secret {SECRET[::-1]} rw-------" in lines
    assert "files ä€" in lines
    uid = "1000" if image == "user" else "0"
    at = lines.index("child ä€")
    assert lines[at : at + 4] == ["child ä€", uid, "nohup ran", "ps"]
    assert lines[-1] == "code 0"


@on_the_engine
@pytest.mark.parametrize(
    ("image", "user", "home"),
    [("user", None, "/home/builder"), ("nopasswd", None, "/tmp/home"), ("busybox", "4711:42", "/tmp/home")],
)
async def test_its_home_is_one_that_it_can_write_to(containers, image, user, home):
    code, lines, _ = await containers.run(f"sibling-test/{image}:1", agent_task(), user=user)
    assert code == 0
    assert {f"property user.home={home}", f"variable HOME={home}"} <= set(lines)


@on_the_engine
@pytest.mark.parametrize("language", [{}, {"LC_ALL": "en_US.UTF-8"}, {"LANG": "C.UTF-8"}], ids=str)
async def test_names_of_files_may_have_any_characters_whatever_locales_the_image_has(containers, language):
    _, lines, _ = await containers.run(BUSYBOX, agent_task(), env=language)
    assert {"property sun.jnu.encoding=UTF-8", "property file.encoding=UTF-8", "child ä€"} <= set(lines)
    assert {f"variable {name}={value}" for name, value in language.items()} <= set(lines)


@on_the_engine
async def test_children_see_neither_the_secret_nor_our_loader_nor_our_words(containers):
    _, lines, _ = await containers.run("sibling-test/debian:1", agent_task(), env={"LANG": "C.UTF-8", "MINE": "1"})
    child = lines[lines.index("ps") + 1 : -1]
    names = {line.partition("=")[0] for line in child}
    assert "MINE=1" in child
    assert names <= {"PATH", "HOME", "HOSTNAME", "PWD", "OLDPWD", "SHLVL", "LANG", "MINE", "_"}
    assert SECRET not in "\n".join(child)


@on_the_engine
async def test_variables_that_would_stop_our_java_are_not_passed_on(containers):
    libraries = containers.workspace / "lib" / "server"
    libraries.mkdir(parents=True)
    (libraries / "libjvm.so").touch()
    hostile = dict.fromkeys(HIDDEN, "-XX:+NoSuchOption") | {
        "LD_PRELOAD": "/bin/busybox",
        "LD_LIBRARY_PATH": f"{toolkit.WORKSPACE}/lib/server",
    }
    code, lines, errors = await containers.run(BUSYBOX, agent_task(), env=hostile)
    assert (code, errors) == (0, [])
    assert not [line for line in lines if line.startswith(tuple(f"variable {name}=" for name in hostile))]


@on_the_engine
async def test_other_paths_to_libraries_are_passed_on_and_not_used(containers):
    (containers.workspace / "libz.so.1").write_text("no library")
    _, lines, errors = await containers.run(BUSYBOX, agent_task(), env={"LD_LIBRARY_PATH": toolkit.WORKSPACE})
    assert errors == []
    assert "LD_LIBRARY_PATH=/workspace" in lines


@on_the_engine
async def test_options_and_the_heap_reach_the_jvm(containers):
    task = agent_task(heap=32 * 1024**2, options=["-XX:+PrintFlagsFinal", "-Duser.language=de ß"])
    _, lines, _ = await containers.run(BUSYBOX, task)
    assert [line.split()[3] for line in lines if " MaxHeapSize " in line] == [str(32 * 1024**2)]


@on_the_engine
async def test_the_secret_is_in_no_inspect_and_no_process_list_or_environment(containers):
    container = await containers.started(BUSYBOX, agent_task("stays"))
    client = containers.volume.docker.api
    assert SECRET not in json.dumps(client.inspect_container(container))
    top = client.top(container)
    processes = [Path("/proc", row[top["Titles"].index("PID")]) for row in top["Processes"]]
    assert len(processes) >= 2
    seen = [(process / part).read_bytes() for process in processes for part in ("cmdline", "environ")]
    assert any(b"-webSocket" in part for part in seen)
    assert not [part for part in seen if SECRET.encode() in part]


@on_the_engine
async def test_term_ends_it_and_lets_it_end_its_own_way(containers):
    container = await containers.started(BUSYBOX, agent_task("stays"))
    began = time.monotonic()
    await containers.engine.stop(container, 30)
    assert time.monotonic() - began < 10
    assert (await containers.engine.wait(container)).exit_code == 143
    assert containers.volume.docker.containers.get(container).logs().endswith(b"ready\nending\n")


@on_the_engine
async def test_a_script_around_the_agent_can_run_it(containers):
    code, lines, _ = await containers.run(BUSYBOX, toolkit.wrapped(agent_task(), 'echo "first"; "$@"; exit 3'))
    assert (code, lines[0], lines[-1]) == (3, "first", "code 0")


async def recorded(containers):
    """Run to its end what makes an archive; what it said."""
    container = await containers.started(BUSYBOX, agent_task("stays", archive_to=ARCHIVED))
    await containers.engine.stop(container, 60)
    return containers.volume.docker.containers.get(container).logs().decode()


@on_the_engine
async def test_an_archive_of_a_trial_run_is_used_by_the_agents_after_it(containers, agent_volume, probe):
    containers.kit = agent_volume.install(another(probe))
    said = await recorded(containers)
    assert "[sibling]" not in said
    assert sorted(path.name for path in containers.workspace.iterdir()) == [agents.ARCHIVE, "ä€"]
    agents.adopt_archive(agent_volume.data, containers.kit, containers.workspace / agents.ARCHIVE)
    task = agent_task(archive=True, options=["-Xlog:class+load"])
    code, lines, errors = await containers.run("sibling-test/nopasswd:1", task)
    assert (code, errors) == (0, [])
    assert [line for line in lines if " Probe source: shared objects file (top)" in line]


@on_the_engine
async def test_an_agent_that_was_killed_leaves_no_archive(containers):
    code, _, errors = await containers.run(BUSYBOX, agent_task("dies", archive_to=ARCHIVED))
    assert code == 137
    assert NOT_WHOLE in errors
    assert not (containers.workspace / agents.ARCHIVE).exists()


@on_the_engine
async def test_an_archive_that_a_full_disk_cut_off_is_not_kept(containers):
    task = agent_task(archive_to=f"/tmp/{agents.ARCHIVE}")
    _, lines, errors = await containers.run(BUSYBOX, task, tmp_size="100k")
    assert NOT_WHOLE in errors, lines


@on_the_engine
@pytest.mark.parametrize("content", [b"", b"\0" * 4096, os.urandom(10**6)], ids=["empty", "zeros", "noise"])
async def test_an_archive_that_is_none_does_no_harm(containers, agent_volume, probe, content):
    containers.kit = agent_volume.install(another(probe))
    (agent_volume.data / containers.kit / agents.ARCHIVE).write_bytes(content)
    code, lines, errors = await containers.run(BUSYBOX, agent_task(archive=True))
    assert (code, errors, lines[0]) == (0, [], "argument -url")


@on_the_engine
async def test_an_archive_of_another_program_does_no_harm(containers, agent_volume, probe):
    await recorded(containers)
    containers.kit = agent_volume.install(another(probe))
    agents.adopt_archive(agent_volume.data, containers.kit, containers.workspace / agents.ARCHIVE)
    code, lines, errors = await containers.run(BUSYBOX, agent_task(archive=True))
    assert (code, errors, lines[0]) == (0, [], "argument -url")


@pytest.fixture
def data(runtime, tmp_path):
    share_runtime(runtime, tmp_path)
    return tmp_path


@pytest.fixture
def install(data, jdk):
    base = toolkit.install(data, find_static_busybox(), zipapp())
    return lambda jar: agents.install_agent(data, base, jdk, jar)


def test_it_is_installed_once_and_a_new_program_shares_all_the_rest(data, install):
    first = data / install(b"one")
    times = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert data / install(b"one") == first
    second = data / install(b"two")
    assert second != first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == times
    for part in ("jre/lib/modules", "lib/ld.so", "bin/busybox", "python/lib/ld.so", "sibling/__main__.pyc", "enter"):
        assert (first / part).samefile(second / part)
    assert [(folder / "agent.jar").read_bytes() for folder in (first, second)] == [b"one", b"two"]
    assert (first / "agent.jar").stat().st_mtime == (second / "agent.jar").stat().st_mtime


def test_everyone_may_read_it_and_no_one_may_write(data, install, jdk):
    before = os.umask(0o077)
    try:
        folder = data / install(b"jar")
    finally:
        os.umask(before)
    entries = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    assert len(entries) > 100
    for path in entries:
        mode = path.stat().st_mode & 0o777
        assert mode in ({0o755} if path.is_dir() else {0o755, 0o644}), path


def test_what_a_killed_maker_left_is_removed_by_the_next(data, install):
    left = data / "toolkit" / "tmpabcdef" / "jre"
    left.mkdir(parents=True)
    (left / "half").touch()
    install(b"jar")
    assert not [path.name for path in (data / "toolkit").iterdir() if path.name.startswith("tmp")]


def test_an_archive_must_be_a_file_with_something_in_it(data, install):
    kit = install(b"jar")
    (data / "empty").touch()
    (data / "link").symlink_to(data / kit / "agent.jar")
    os.mkfifo(data / "pipe")
    for name in ("gone", "empty", "link", "pipe", "toolkit"):
        with pytest.raises(AgentError, match="archive of"):
            agents.adopt_archive(data, kit, data / name)
    assert not (data / kit / agents.ARCHIVE).exists()
    assert not [path.name for path in (data / "toolkit").iterdir() if path.name.startswith("tmp")]


def test_a_base_that_is_gone_is_told(data, jdk):
    with pytest.raises(AgentError, match="toolkit could not be made"):
        agents.install_agent(data, "toolkit/gone", jdk, b"jar")
    assert not [path.name for path in (data / "toolkit").iterdir() if path.name.startswith("tmp")]
