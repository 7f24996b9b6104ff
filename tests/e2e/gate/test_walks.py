"""What the engine does with a container's files by their paths on the host, while somebody changes them."""

import bz2
import gzip
import io
import json
import lzma
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.agent.test_tar import sparse_tar
from tests.e2e.gate_process import cli
from tests.e2e.harness import BUSYBOX, until
from tests.e2e.test_builds import tar_of

pytestmark = pytest.mark.engine
PIPED = "rm /etc/passwd; mkfifo /etc/passwd; echo ready; sleep 900"
CHANGES = "mkdir -p /new/deep; echo x >/new/deep/file; rm /bin/true; echo x >>/etc/group; mkdir /gone; rmdir /gone"


def files_of(gate, image):
    """The names and contents of all files of an image, as it is saved."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(cli(gate, "save", image).stdout)) as archive:
        for entry in json.load(archive.extractfile("manifest.json")):
            for layer in entry["Layers"]:
                with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                    found |= {each.name: files.extractfile(each).read() for each in files if each.isreg()}
    return found


def written_by(gate):
    """The bytes that its process has written, to files and elsewhere (proc_pid_io(5))."""
    told = Path(f"/proc/{gate.process.pid}/io").read_text()
    return int(dict(line.split(": ") for line in told.splitlines())["wchar"])


def test_a_volume_is_filled_from_the_image_if_no_container_has_had_it_alone(gate):
    filled = cli(gate, "run", "--rm", "-v", "new:/etc", BUSYBOX, "ls", "/etc").stdout
    assert b"passwd" in filled
    cli(gate, "run", "--rm", "-v", "had:/had", BUSYBOX, "true")
    assert (
        cli(gate, "run", "--rm", "-v", "had:/etc:nocopy", BUSYBOX, "ls", "/etc").stdout
        == b"hostname\nhosts\nresolv.conf\n"
    )
    assert b"passwd" not in cli(gate, "run", "--rm", "-v", "had:/etc", BUSYBOX, "ls", "/etc").stdout
    cli(gate, "volume", "rm", "new", "had")
    cli(gate, "volume", "create", "had")
    assert b"passwd" in cli(gate, "run", "--rm", "-v", "had:/etc", BUSYBOX, "ls", "/etc").stdout
    cli(gate, "volume", "rm", "had")


def test_a_commit_has_nothing_of_the_host_whoever_changes_folders_meanwhile(gate, tmp_path):
    (tmp_path / "zsecret").write_text("SECRET OF THE HOST")
    fill = "mkdir /d; head -c 30000000 /dev/urandom >/d/aaa; echo own >/d/zsecret; echo ready; sleep 900"
    cli(gate, "run", "-d", "--name", "swapped", BUSYBOX, "sh", "-c", fill)
    until(lambda: cli(gate, "logs", "swapped").stdout == b"ready\n", 20, "its files")
    swap = f"cd /proc/1/root; while :; do mv d d2; ln -s {tmp_path} d; rm d; mv d2 d; done"
    cli(gate, "run", "-d", "--name", "swaps", "--pid", "container:swapped", BUSYBOX, "sh", "-c", swap)
    made = 0
    for _ in range(20):
        # An export breaks off where a file that it began with is not where it was.
        if gate.ask("POST", "/commit?container=swapped&repo=swapped&pause=0")[0] == 201:
            assert b"SECRET OF THE HOST" not in files_of(gate, "swapped").values()
            cli(gate, "rmi", "swapped")
            made += 1
            if made == 3:
                break
    assert made == 3
    answers = (gate.ask("GET", "/containers/swapped/changes") for _ in range(20))
    found = next(answer for status, answer in answers if status == 200)
    assert {each["Path"] for each in found or ()} <= {*("/d", "/d2", "/d/aaa", "/d/zsecret", "/d2/aaa", "/d2/zsecret")}


def test_a_commit_is_the_engines_own_but_for_its_layers(gate):
    words = ["-e", 'OWN=a "b" $c', "-w", "/work dir", "-v", "/anonymous", "--label", "own=1", "-u", "7"]
    cli(gate, "run", "--name", "made", *words, BUSYBOX, "true")
    theirs = gate.own()[0]["Id"]
    how = ["-m", "note", "-a", "me", "-c", "ENV MORE=1", "-c", 'CMD ["sh", "-c", "id -u; pwd; echo $OWN $MORE"]']
    cli(gate, "commit", *how, "made", "made:1")
    expected = gate.engine.api.commit(theirs, "expected-of-commit", "1", message="note", author="me", changes=how[5::2])
    try:
        raw = gate.engine.api.inspect_image(expected["Id"])
        made = gate.ask("GET", "/images/made:1/json")[1]
        unlike = {"Hostname", "Labels", "Image"}
        assert {name: value for name, value in made["Config"].items() if name not in unlike} == {
            name: value for name, value in raw["Config"].items() if name not in unlike
        }
        assert made["Config"]["Labels"]["own"] == "1"
        assert (made["Author"], made["Comment"]) == ("me", "note")
    finally:
        gate.engine.api.remove_image("expected-of-commit:1")
    assert cli(gate, "run", "--rm", "made:1").stdout == b'7\n/work dir\na "b" $c 1\n'
    cli(gate, "rm", "-v", "made")
    cli(gate, "rmi", "made:1")


def test_a_diff_is_the_engines_own(gate):
    cli(gate, "run", "--name", "differs", "-v", "/mounted", BUSYBOX, "sh", "-c", CHANGES)
    expected = gate.engine.api.diff(gate.own()[0]["Id"])
    by_path = {each["Path"]: each["Kind"] for each in expected}
    assert {each["Path"]: each["Kind"] for each in gate.ask("GET", "/containers/differs/changes")[1]} == by_path
    assert by_path["/new/deep/file"] == 1
    assert by_path["/bin/true"] == 2
    assert cli(gate, "create", "--name", "same", BUSYBOX).stdout
    assert gate.ask("GET", "/containers/same/changes") == (200, None)


def test_diffs_are_made_one_by_one_and_keep_no_data(gate):
    """A file that is all hole takes nothing of the container's disk, and all of its size in an export."""
    cli(gate, "run", "--name", "holes", BUSYBOX, "truncate", "-s", "200000000", "/holes")
    of_gate = {"name": [f"^/?sibling-gate-{gate.build}[.]"]}  # what a diff makes has no label

    def there():
        return len(gate.engine.containers.list(all=True, filters=of_gate, ignore_removed=True))

    mine, before, most = there(), written_by(gate), 0
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(gate.ask, "GET", "/containers/holes/changes") for _ in range(4)]
        while not all(each.done() for each in asked):
            most = max(most, there())
    assert [each.result() for each in asked] == [(200, [{"Path": "/holes", "Kind": 1}])] * 4
    assert most == mine + 1
    assert written_by(gate) - before < 10_000_000


def test_no_size_is_told_for_which_the_engine_looks_into_folders(gate):
    cli(gate, "run", "-d", "--name", "sized", "-v", "sized:/d", BUSYBOX, "sleep", "900")
    assert "SizeRw" not in gate.ask("GET", "/containers/sized/json?size=1")[1]
    assert all("SizeRw" not in each for each in gate.ask("GET", "/containers/json?size=1")[1])
    assert [each["UsageData"] for each in gate.ask("GET", "/system/df")[1]["Volumes"]] == [{"Size": -1, "RefCount": 1}]
    cli(gate, "rm", "-f", "sized")
    cli(gate, "volume", "rm", "sized")


def pipe_at(path, link=None):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        pipe = tarfile.TarInfo(path)
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
        if link is not None:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, f"/{path}"
            archive.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("archive", "file"),
    [
        (pipe_at("etc/passwd"), b"/etc/passwd"),
        (pipe_at("etc/group"), b"/etc/group"),
        (pipe_at("pipe", "etc/passwd"), b"/etc/passwd"),
    ],
    ids=["passwd", "group", "link"],
)
def test_what_the_engine_would_wait_for_to_no_end_is_not_started(gate, archive, file):
    cli(gate, "import", "-", "piped", stdin=archive)
    cli(gate, "create", "--name", "piped", "piped", "/x")
    refused = cli(gate, "start", "piped", check=False)
    assert file in refused.stderr
    assert b"is no file" in refused.stderr
    cli(gate, "rm", "piped")
    cli(gate, "rmi", "piped")


@pytest.mark.parametrize(
    ("target", "volume"), [("/etc/passwd", False), ("/etc", True), ("/", False)], ids=["passwd", "etc", "none"]
)
def test_no_mount_hides_it(gate, target, volume):
    cli(gate, "import", "-", "piped", stdin=pipe_at("etc/passwd"))
    (gate.files / "pw").write_text("root:x:0:0::/:/bin/sh\n")
    mount = ["-v", "hiding:/etc"] if volume else ["-v", f"/workspace/pw:{target}"]
    cli(gate, "create", "--name", "piped", "-u", "nobody", *(mount if target != "/" else []), "piped", "/x")
    assert b"is no file" in cli(gate, "start", "piped", check=False).stderr
    cli(gate, "rm", "piped")
    cli(gate, "rmi", "piped")


@pytest.mark.parametrize(
    ("links", "is_pipe"),
    [
        ({"etc/passwd": "../x/pipe"}, True),
        ({"etc/passwd": "/y/pipe", "y": "x"}, True),
        ({"etc": "real", "real/passwd": "/x/pipe"}, False),  # the engine makes /etc a folder
        ({"etc/passwd": "/a/../x/pipe", "a": "x"}, None),
        ({"etc/passwd": "/etc/passwd"}, None),
        ({"etc/passwd": "/x/file"}, False),
        ({"etc/passwd": "/x/none"}, False),
        ({"etc/passwd": "../../../../x/file"}, False),
    ],
)
def test_links_are_followed_as_the_engine_does(gate, links, is_pipe):
    files = {"x/pipe": tarfile.FIFOTYPE, "x/file": tarfile.REGTYPE}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, kind in files.items():
            member = tarfile.TarInfo(name)
            member.type = kind
            archive.addfile(member)
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    cli(gate, "import", "-", "linked", stdin=data.getvalue())
    cli(gate, "create", "--name", "linked", "linked", "/x")
    said = cli(gate, "start", "linked", check=False).stderr
    words = {True: b"is no file", None: b"links", False: b"exec"}
    assert words[is_pipe] in said
    cli(gate, "rm", "linked")
    cli(gate, "rmi", "linked")


def layers_of(gate):
    """Of the engine, on its disk; with what it made for others meanwhile."""
    found = gate.engine.containers.get(gate.own()[0]["Id"]).attrs["GraphDriver"]["Data"]
    return Path(found["UpperDir"]).parent


@pytest.mark.parametrize("mounts", [[], ["-v", "/workspace:/w", "-v", "kept:/data/kept", "--tmpfs", "/tmp"]])
def test_a_look_leaves_nothing_on_the_disk(gate, mounts):
    """The engine leaves a container's layer there after an export."""
    cli(gate, "run", "-d", "--name", "looked", *mounts, BUSYBOX, "sleep", "600")
    folder = layers_of(gate)
    cli(gate, "exec", "-u", "0", "looked", "true")
    cli(gate, "restart", "-t", "0", "looked")
    cli(gate, "rm", "-f", "looked")
    assert not folder.exists()


@pytest.mark.parametrize("target", ["/lnk", "/lnk/sub"])
def test_no_link_moves_a_mount_over_it(gate, target):
    """A mount goes where links lead, and so over the users; what the engine opens is below."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, kind, to in (
            ("etc", tarfile.DIRTYPE, ""),
            ("etc/passwd", tarfile.FIFOTYPE, ""),
            ("lnk", tarfile.SYMTYPE, "/etc" if target == "/lnk" else "/"),
            ("sub", tarfile.SYMTYPE, "/etc"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, to, 0o755
            archive.addfile(member)
    cli(gate, "import", "-", "moved", stdin=data.getvalue())
    (gate.files / "users").mkdir(exist_ok=True)
    (gate.files / "users/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    cli(gate, "create", "--name", "moved", "-v", f"/workspace/users:{target}", "moved", "/x")
    gate.ask("PUT", "/containers/moved/archive?path=/", tar_of({"more": b""}))  # from now on it is looked at itself
    assert b"is no file" in cli(gate, "start", "moved", check=False).stderr
    cli(gate, "rm", "moved")
    cli(gate, "rmi", "moved")


def test_nor_is_it_again_nor_a_command_of_another_user(gate):
    cli(gate, "run", "-d", "--name", "piped", BUSYBOX, "sh", "-c", PIPED)
    until(lambda: cli(gate, "logs", "piped").stdout == b"ready\n", 20, "the pipe")
    assert b"is no file" in cli(gate, "exec", "-u", "nobody", "piped", "true", check=False).stderr
    assert b"is no file" in cli(gate, "exec", "-d", "-u", "nobody", "piped", "true", check=False).stderr
    cli(gate, "run", "-d", "--name", "of-user", "-u", "0", BUSYBOX, "sh", "-c", PIPED)
    until(lambda: cli(gate, "logs", "of-user").stdout == b"ready\n", 20, "the pipe")
    assert b"is no file" in cli(gate, "exec", "of-user", "true", check=False).stderr
    assert b"is no file" in cli(gate, "restart", "-t", "0", "piped", check=False).stderr
    cli(gate, "create", "--name", "put", BUSYBOX)
    status, _ = gate.ask("PUT", "/containers/put/archive?path=/etc", tar_of({"more": b""}))
    assert status == 200
    assert cli(gate, "start", "put").returncode == 0


TRAPPED = """
trap 'rm /etc/passwd; mkfifo /etc/passwd; exit 0' TERM
echo ready
while :; do sleep 0.1; done
"""


HOLES = "mkdir /a; truncate -s 1000000000000 /a/holes; echo ready; sleep 600"


def test_nor_is_what_changes_as_it_is_stopped(gate):
    cli(gate, "run", "-d", "--name", "trapped", BUSYBOX, "sh", "-c", TRAPPED)
    until(lambda: cli(gate, "logs", "trapped").stdout == b"ready\n", 20, "the trap")
    assert b"is no file" in cli(gate, "restart", "trapped", check=False).stderr
    assert cli(gate, "inspect", "--format", "{{.State.Status}}", "trapped").stdout == b"exited\n"


def test_what_goes_as_it_stops_is_not_restarted(gate):
    cli(gate, "run", "-d", "--rm", "--name", "goes", BUSYBOX, "sleep", "600")
    assert b"AutoRemove" in cli(gate, "restart", "-t", "0", "goes", check=False).stderr
    assert cli(gate, "exec", "goes", "true").returncode == 0


def test_looks_that_take_long_leave_others_their_turn(gate_of):
    """A file of a terabyte that is all hole comes before the users in an export, which shows what a mount hides."""
    gate = gate_of("long-looks").start()
    (gate.files / "users").write_text("root:x:0:0::/:/bin/sh\n")
    cli(gate, "run", "-d", "--name", "holes", "-v", "/workspace/users:/etc/passwd", BUSYBOX, "sh", "-c", HOLES)
    until(lambda: cli(gate, "logs", "holes").stdout == b"ready\n", 20, "the file")
    cli(gate, "create", "--name", "other", BUSYBOX, "sleep", "600")
    with ThreadPoolExecutor(45) as pool:
        asked = {"Cmd": ["id"], "User": "0"}
        looks = [pool.submit(gate.ask, "POST", "/containers/holes/exec", asked) for _ in range(45)]
        assert gate.ask("PUT", "/containers/other/archive?path=/tmp", tar_of({"more": b""}))[0] == 200
        assert not any(each.done() for each in looks)
        gate.kill()
        assert all(each.exception() for each in looks)
    gate.start().stop()


def test_a_diff_makes_no_volumes_and_takes_no_more_paths_than_can_be_kept(gate):
    volumes = "/one /two"
    cli(gate, "run", "--name", "voluminous", BUSYBOX, "touch", "/file")
    cli(gate, "commit", "-c", f"VOLUME {volumes}", "voluminous", "voluminous")
    cli(gate, "rm", "voluminous")
    cli(gate, "run", "--name", "voluminous", "voluminous", "touch", "/other")
    of_gate = {"name": [f"^/?sibling-gate-{gate.build}[.][0-9a-f]{{32}}$"]}
    with ThreadPoolExecutor(1) as pool:

        def stand_in():
            asked = pool.submit(gate.ask, "GET", "/containers/voluminous/changes")
            found = []
            while not (asked.done() or found):
                found = gate.engine.containers.list(all=True, filters=of_gate, ignore_removed=True)
            assert asked.result()[0] == 200
            return found

        (found,) = until(stand_in, what="the container that stands in")
    assert found.attrs["Mounts"] == []
    long = "d" * 240
    deep = f"cd /; for n in $(seq 15); do mkdir {long}; cd {long}; done; touch $(seq 10000 28999)"
    cli(gate, "run", "--name", "deep", BUSYBOX, "sh", "-c", deep)
    status, said = gate.ask("GET", "/containers/deep/changes")
    assert (status, "characters of paths" in said["message"]) == (400, True)
    cli(gate, "rm", "voluminous")
    cli(gate, "rmi", "voluminous")


@pytest.mark.parametrize(
    "packed", [b"\x28\xb5\x2f\xfd" + bytes(20), b"\x50\x2a\x4d\x18" + bytes(20), b"BZh9" + bytes(20)]
)
@pytest.mark.parametrize("to", ["/containers/unpacked/archive?path=/", "/images/create?fromSrc=-"])
def test_the_engine_unpacks_nothing_with_as_much_memory_as_is_asked_for(gate, packed, to):
    gate.create("unpacked")
    method = "PUT" if "archive" in to else "POST"
    assert gate.ask(method, to, packed) == (
        400,
        {"message": "the archive is packed by zstd, bzip2 or xz, or twice; send it as it is, or by gzip"},
    )
    assert gate.ask(method, to, lzma.compress(tar_of({"x": b"1"})))[0] == 400
    assert gate.ask(method, to, gzip.compress(packed)) == gate.ask(method, to, packed)


@pytest.mark.parametrize("packer", [lzma.compress, bz2.compress, gzip.compress])
@pytest.mark.parametrize("to", ["/containers/unpacked/archive?path=/", "/images/create?fromSrc=-"])
def test_nor_what_was_packed_once_more(gate, packer, to):
    gate.create("unpacked")
    method = "PUT" if "archive" in to else "POST"
    status, answer = gate.ask(method, to, gzip.compress(packer(tar_of({"inner": b"1"}))))
    assert (status, "or twice" in answer["message"]) == (400, True)
    assert cli(gate, "cp", "unpacked:/inner", "-", check=False).returncode != 0


@pytest.mark.parametrize("packer", [bytes, gzip.compress])
@pytest.mark.parametrize("to", ["/containers/sparse/archive?path=/", "/images/create?fromSrc=-"])
def test_no_more_is_written_than_comes(gate, packer, to):
    gate.create("sparse")
    data = tar_of({"before": b"1" * 700})[:1536] + sparse_tar("sparse", 10**9)
    status, answer = gate.ask("PUT" if "archive" in to else "POST", to, packer(data))
    assert (status, "has a sparse file" in answer["message"]) == (400, True)
    assert cli(gate, "cp", "sparse:/sparse", "-", check=False).returncode != 0


def test_other_files_are_put_as_they_come(gate):
    """Links, long names, headers of the archive's own, and nothing after the last file."""
    gate.create("put")
    script = "mkdir d; echo own >d/file; ln d/file hard; ln -s d soft; echo long >d/$(printf %0200d 1); : >d/é"
    for how in ("--format=gnu", "--format=pax --pax-option=comment=x"):
        tar = f"set -e; cd $(mktemp -d); {script}; tar -c {how} d hard soft"
        data = subprocess.run(["bash", "-c", tar], capture_output=True, check=True).stdout.rstrip(b"\0")
        data += bytes(-len(data) % 512)
        assert gate.ask("PUT", "/containers/put/archive?path=/tmp", data)[0] == 200
        assert cli(gate, "cp", "put:/tmp/hard", "-").stdout.count(b"own\n") == 1
        assert cli(gate, "cp", f"put:/tmp/d/{1:0200d}", "-").stdout.count(b"long\n") == 1


def test_the_first_name_in_a_commit_is_no_mark_of_a_packer(gate):
    """`export` begins with the first name of the container, which is the build's to choose."""
    cli(gate, "run", "--name", "marked", BUSYBOX, "sh", "-c", "echo own >/BZh9 && rm /.dockerenv")
    cli(gate, "commit", "marked", "marked:1")
    assert cli(gate, "run", "--rm", "marked:1", "cat", "/BZh9").stdout == b"own\n"
    cli(gate, "rm", "marked")
    cli(gate, "rmi", "marked:1")


def test_an_archive_packed_by_gzip_is_taken_in_one_or_several_members(gate):
    gate.create("unpacked")
    data = tar_of({"x": b"1" * 5000})
    packed = gzip.compress(data[:1000]) + gzip.compress(data[1000:])
    assert gate.ask("PUT", "/containers/unpacked/archive?path=/", packed)[0] == 200
    assert b"1" * 5000 in cli(gate, "cp", "unpacked:/x", "-").stdout
    assert gate.ask("PUT", "/containers/unpacked/archive?path=/", packed[:-20])[0] == 400
