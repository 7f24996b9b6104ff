"""`sibling` runs in any image, on a Python that is a copy of ours and needs nothing of the image."""

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from agent import toolkit
from agent.busybox import find_static_busybox
from agent.engine import Mount
from agent.errors import AgentError, InvalidSettings
from agent.requests import BuildRequest
from agent.toolkit import elf, python
from api.client_zipapp import zipapp
from tests.agent.agent_steps import AgentContainers, KitVolume
from tests.conftest import BUSYBOX
from tests.fakes.build_server import BuildServer

# Ours, those that were installed beside it in the way of pyenv, and Debian's.
PYTHONS = sorted(
    {python.ours(), *python.ours().parents[2].glob("3.1*/bin/python3.1[1-9]"), *Path("/usr/bin").glob("python3.1[1-9]")}
)
# A client that tells what it finds, and ends as it is told.
PROBE = """
import http.client, json, os, ssl, subprocess, sys, zlib
words = ["/opt/sibling/bin/busybox", "env"]
child = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
print(json.dumps({
    "version": sys.version, "prefix": sys.prefix, "path": sys.path, "argv": sys.argv[1:], "ssl": ssl.OPENSSL_VERSION,
    "child": child, "files": sys.getfilesystemencoding(),
}))
sys.exit(int(sys.argv[1]))
"""


def zipped(**sources):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, source in sources.items():
            archive.writestr(f"{name}.py", source)
    return content.getvalue()


def installed(data, client=None, program=None):
    return data / toolkit.install(data, find_static_busybox(), client or zipped(__main__=PROBE), program)


def root_with(kit, folder):
    """A root folder with nothing but a toolkit; the words that start a program in it."""
    target = folder / toolkit.TARGET.removeprefix("/")
    target.parent.mkdir(parents=True)
    shutil.copytree(kit, target, symlinks=True)
    return ["/usr/sbin/chroot", folder]


@pytest.mark.parametrize("program", PYTHONS, ids=str)
def test_it_is_complete_in_itself_wherever_the_python_is_from(tmp_path, program):
    chroot = root_with(installed(tmp_path, program=program), tmp_path / "root")
    command = [*chroot, f"{toolkit.TARGET}/bin/sibling", "42", "ä b", "*"]
    ended = subprocess.run(command, capture_output=True, text=True, env={"LC_ALL": "en_US"}, check=False)
    assert (ended.returncode, ended.stderr) == (42, "")
    told = json.loads(ended.stdout)
    words = [program, "-c", "import sys; print(sys.version)"]
    assert told["version"] == subprocess.run(words, capture_output=True, text=True, check=True).stdout.rstrip("\n")
    assert told["argv"] == ["42", "ä b", "*"]
    assert told["files"] == "utf-8"
    assert "LC_ALL=en_US" in told["child"]
    assert not [line for line in told["child"] if line.startswith(("PYTHON", "LD_"))]
    assert [path for path in told["path"] if not path.startswith("/opt/sibling/")] == []


def test_it_is_a_copy_of_the_python_that_runs_the_service():
    assert python.ours().parents[1] == Path(sys.base_prefix)
    assert python.examine(python.ours()).library == Path(sysconfig.get_path("stdlib"))


def test_all_that_the_client_imports_is_in_it(tmp_path):
    """Much is imported when it is needed, so that no command would show all of it."""
    with zipfile.ZipFile(io.BytesIO(zipapp())) as sources:
        nodes = [node for name in sources.namelist() for node in ast.walk(ast.parse(sources.read(name)))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {"json", "http.client", "tarfile"} <= names
    program = f"import sys; sys.path.insert(0, sys.argv[1]); import {', '.join(sorted(names))}"
    kit = installed(tmp_path, zipapp())
    words = [*python._command(kit), *python._ALONE, "-c", program, kit / "sibling"]
    assert subprocess.run(words, capture_output=True, text=True, env={}, check=False).stderr == ""


def test_its_bytecode_is_used_as_it_is_and_no_source_is_there(tmp_path):
    kit = installed(tmp_path, zipapp())
    assert not [path for path in kit.rglob("*.py") if path.is_file()]
    assert not list(kit.rglob("__pycache__"))
    (library,) = kit.glob("python/lib/python3*")
    for folder in (library, kit / "sibling"):
        files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".so"]
        assert {path.suffix for path in files} == {".pyc"}
        assert {path.read_bytes()[4:8] for path in files} == {b"\1\0\0\0"}


def test_what_a_command_line_never_needs_is_left_out(tmp_path):
    kit = installed(tmp_path)
    (library,) = kit.glob("python/lib/python3*")
    tops = {path.name.removesuffix(".pyc") for path in library.iterdir()}
    assert {"json", "ssl", "http", "email", "tarfile", "encodings"} <= tops
    assert not {"test", "tkinter", "idlelib", "ensurepip", "site-packages", "dist-packages", "pydoc_data"} & tops
    names = {path.name.partition(".")[0] for path in kit.rglob("lib-dynload/*.so")}
    assert not [name for name in names if "test" in name or name in {"_tkinter", "_curses", "_sqlite3", "readline"}]


def relocated(folder, *, extensions=True):
    """Our Python with another program file: the same library, by links."""
    source = python.examine(python.ours())
    program = folder / source.program.relative_to(source.prefix)
    program.parent.mkdir(parents=True)
    shutil.copy(source.program, program)
    library = folder / source.library.relative_to(source.prefix)
    library.parent.mkdir(parents=True)
    if extensions:
        library.symlink_to(source.library)
    else:
        library.mkdir()
        for part in source.library.iterdir():
            if part.name != "lib-dynload":
                (library / part.name).symlink_to(part)
    return program


def test_file_capabilities_of_the_program_are_not_copied(tmp_path):
    """As our image's has, to manage the workspaces of any user."""
    program = relocated(tmp_path / "source")
    # VFS_CAP_REVISION_2 with cap_chown, permitted and effective (linux/capability.h).
    os.setxattr(program, "security.capability", bytes.fromhex("0100000201000000000000000000000000000000"))
    assert os.listxattr(program) == ["security.capability"]
    kit = installed(tmp_path, program=program)
    assert [path for path in kit.rglob("*") if "security.capability" in os.listxattr(path, follow_symlinks=False)] == []


def test_another_program_is_another_copy_and_the_same_one_is_found(tmp_path):
    program = relocated(tmp_path / "source")
    same = relocated(tmp_path / "same")
    other = relocated(tmp_path / "other")
    with other.open("ab") as file:
        file.write(b"\n")
    seen = [python.identity(python.examine(each)) for each in (program, same, other)]
    assert seen[0] == seen[1] != seen[2]


def test_another_client_shares_the_python(tmp_path):
    first, second = installed(tmp_path), installed(tmp_path, zipapp())
    assert first != second
    for part in ("python/bin/python3", "python/lib/ld.so"):
        assert (first / part).samefile(second / part)
    assert not (first / "sibling/__main__.pyc").samefile(second / "sibling/__main__.pyc")


def test_a_python_for_another_libc_is_refused(tmp_path):
    program = relocated(tmp_path / "source")
    loader = elf.interpreter(program).encode()
    program.write_bytes(program.read_bytes().replace(loader, b"/lib/ld-musl.so.1".ljust(len(loader), b"\0")))
    with pytest.raises(InvalidSettings, match=r"another C library than glibc.*/lib/ld-musl\.so\.1.*CPython for glibc"):
        installed(tmp_path, program=program)


@pytest.mark.parametrize("content", [None, b"", b"#!/bin/sh\n"])
def test_what_is_no_program_is_refused(tmp_path, content):
    program = tmp_path / "python3"
    if content is not None:
        program.write_bytes(content)
    with pytest.raises(InvalidSettings, match="python3 cannot be run here"):
        installed(tmp_path, program=program)


def test_a_program_that_is_no_python_is_told_with_its_own_words(tmp_path):
    with pytest.raises(InvalidSettings, match=r"Python for `sibling`.* could not be made: /usr/bin/env .* failed: ."):
        installed(tmp_path, program=Path("/usr/bin/env"))


def test_a_python_that_is_spread_over_several_places_is_refused(tmp_path):
    program = relocated(tmp_path / "source", extensions=False)
    with pytest.raises(InvalidSettings, match=r"has its library in other places than"):
        installed(tmp_path, program=program)


def test_a_client_that_is_none_leaves_nothing_behind(tmp_path):
    with pytest.raises(InvalidSettings, match="SyntaxError"):
        installed(tmp_path, zipped(__main__="def"))
    assert not list(tmp_path.glob("toolkit/*/enter"))
    assert not list(tmp_path.glob("toolkit/tmp*"))


def test_a_disk_that_refuses_is_told(tmp_path):
    (tmp_path / "toolkit").write_text("no folder")
    with pytest.raises(AgentError, match="builds' toolkit could not be made"):
        installed(tmp_path)


# ---------------------------------------------------------------------------------------- on the engine


@pytest.fixture(scope="module")
def volume(docker_host):
    volume = KitVolume(docker_host)
    yield volume
    volume.destroy()


def ran(volume, image, *words, **parts):
    """The exit code and the output of `sibling` in a container that can write nowhere."""
    mounts = [{"Type": "volume", "Source": volume.volume.name, "Target": toolkit.TARGET, "ReadOnly": True}]
    mounts[0]["VolumeOptions"] = {"Subpath": volume.base}
    entry = [f"{toolkit.TARGET}/bin/sibling"]
    options = {"mounts": mounts, "entrypoint": entry, "network_mode": "none", "read_only": True}
    container = volume.docker.containers.create(image, list(words), **options, **parts)
    try:
        container.start()
        return container.wait()["StatusCode"], container.logs().decode()
    finally:
        container.remove(force=True)


@pytest.mark.engine
@pytest.mark.parametrize("user", ["0", "1234"])
@pytest.mark.parametrize("image", ["busybox", "static", "nopasswd", "debian"])
def test_it_starts_in_any_image_for_anyone_with_nothing_to_write_to(volume, image, user):
    code, said = ran(volume, f"sibling-test/{image}:1", "--help", user=user)
    assert (code, said.splitlines()[0]) == (0, "usage: sibling COMMAND ...")


@pytest.fixture
async def containers(volume):
    """Builds in a workspace of the test's own."""
    containers = AgentContainers(volume, volume.base)
    yield containers
    await containers.close()


@pytest.fixture
def probes(volume, containers):
    """The same with a toolkit whose `sibling` is the probe."""
    containers.kit = str(installed(volume.data).relative_to(volume.data))
    return containers


def command(*argv):
    return toolkit.task(BuildRequest(image="image", argv=list(argv)), {})


def on_the_engine(test):
    return pytest.mark.engine(pytest.mark.anyio(test))


@on_the_engine
@pytest.mark.parametrize("user", ["0", "1234"])
async def test_a_build_reaches_the_service_through_the_socket_that_it_is_given(containers, volume, tmp_path, user):
    folder = containers.workspace / "run"
    folder.mkdir()
    (tmp_path / "run").symlink_to(folder)  # a socket's path must be short
    parts = containers.parts(BUSYBOX)
    subpath = f"{containers.workspace.name}/run"
    socket = Mount(volume=volume.volume.name, subpath=subpath, target="/run/sibling", read_only=True)
    with BuildServer(path=tmp_path / "run" / "api.sock") as server:
        (folder / "api.sock").chmod(0o666)
        parts = {"mounts": [*parts["mounts"], socket], "user": user}
        code, lines, errors = await containers.run(BUSYBOX, command("sibling", "ps", "--json"), **parts)
        assert (code, json.loads("".join(lines)), errors) == (0, [], [])
        assert [asked.path for asked in server.asked] == ["/v1/builds"]


@on_the_engine
async def test_without_a_service_it_says_where_it_looked(containers):
    code, _, errors = await containers.run(BUSYBOX, command("sibling", "ps"))
    assert code == 1
    assert errors[0].startswith("[sibling] Cannot connect to http://127.0.0.1:8700")


@on_the_engine
@pytest.mark.parametrize("image", ["busybox", "debian"])
@pytest.mark.parametrize("code", [0, 1, 42, 125])
async def test_its_exit_code_passes_through(probes, image, code):
    ended = await probes.run(f"sibling-test/{image}:1", command("sibling", str(code)))
    assert (ended[0], ended[2]) == (code, [])


@on_the_engine
@pytest.mark.parametrize("image", ["busybox", "debian"])
async def test_no_python_or_library_of_an_image_disturbs_it_and_programs_that_it_starts_keep_theirs(probes, image):
    for name in ("json.py", "sitecustomize.py", "usercustomize.py"):
        (probes.workspace / name).write_text("raise SystemExit('not mine')")
    for name in ("libc.so.6", "libz.so.1", "libcrypto.so.3"):
        (probes.workspace / name).write_text("no library")
    given = dict.fromkeys(("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH"), toolkit.WORKSPACE)
    given |= {"PYTHONSTARTUP": "/workspace/json.py", "PYTHONOPTIMIZE": "2", "LC_ALL": "xx_XX"}
    hostile = {"LD_PRELOAD": "/workspace/libc.so.6", "LD_AUDIT": "/workspace/libc.so.6"}
    words = command("/opt/sibling/bin/sh", "-c", "sibling 0")
    code, lines, errors = await probes.run(f"sibling-test/{image}:1", words, env={**given, **hostile})
    assert (code, errors) == (0, [])
    told = json.loads(lines[0])
    child = dict(line.split("=", 1) for line in told["child"])
    assert told["prefix"] == "/opt/sibling/python"
    assert told["ssl"]
    assert child.items() >= given.items()
    assert not hostile.keys() & child.keys()


@on_the_engine
async def test_an_images_own_python_stays_what_it_is(probes):
    words = "sibling 0 >/dev/null && python3 -c 'import sys, json; print(sys.prefix, json.__file__)'"
    code, lines, errors = await probes.run("sibling-test/debian:1", command("sh", "-c", words))
    assert (code, errors) == (0, [])
    assert lines[0].startswith("/usr /usr/lib/python3")


@on_the_engine
async def test_an_images_own_sibling_goes_before_it(probes):
    (probes.workspace / "sibling").write_text("#!/bin/sh\necho mine\n")
    (probes.workspace / "sibling").chmod(0o755)
    code, lines, _ = await probes.run(BUSYBOX, command("sibling", "0"), env={"PATH": "/bin:/workspace"})
    assert (code, lines) == (0, ["mine"])
