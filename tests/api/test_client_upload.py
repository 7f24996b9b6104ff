"""What of a folder goes into the upload, byte for byte, and what happens to a folder that will not hold still."""

from __future__ import annotations

import gzip
import io
import os
import socket
import stat
import tarfile
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.client.connection import Connection
from api.client.errors import ClientError, Refused
from api.client.terminal import Screen
from api.client.upload import CHUNK, _compressed, _whole_chunks, tar, upload
from tests.api import client_process
from tests.fakes.build_server import SOURCE_ID, Answer, BuildServer, FakeBuild


def unpacked(folder, warnings=None):
    stream = b"".join(tar(str(folder), (warnings if warnings is not None else []).append))
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        return {
            member.name: (member, archive.extractfile(member).read() if member.isreg() else None) for member in archive
        }


def test_files_folders_links_and_modes_arrive_as_they_are(tmp_path):
    (tmp_path / "empty").mkdir(mode=0o750)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref")
    (tmp_path / "run.sh").write_bytes(b"x" * 513)
    (tmp_path / "run.sh").chmod(0o4755)
    os.utime(tmp_path / "run.sh", (1_700_000_000.9, 1_700_000_000.9))
    (tmp_path / "dangling").symlink_to("..//no/./where")
    (tmp_path / "loop").symlink_to(".")
    members = unpacked(tmp_path)
    assert set(members) == {"empty", ".git", ".git/HEAD", "run.sh", "dangling", "loop"}
    script, content = members["run.sh"]
    assert (content, script.mode, script.mtime) == (b"x" * 513, 0o755, 1_700_000_000)
    assert members["empty"][0].isdir()
    assert members["empty"][0].mode == 0o750
    assert members["dangling"][0].linkname == "..//no/./where"
    assert members["loop"][0].issym()


def test_everything_belongs_to_root_and_names_nobody(tmp_path):
    (tmp_path / "f").write_text("x")
    os.chown(tmp_path / "f", 1234, 5678)
    member, _ = unpacked(tmp_path)["f"]
    assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")


@pytest.mark.parametrize("name", ["é" * 60, "long" * 50, "a b\n'\"", "\udcff not unicode", "-rf", "\\"])
def test_any_name_that_a_file_can_have_arrives(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / name).write_text("content")
    assert unpacked(tmp_path)[f"{name}/{name}"][1] == b"content"


@pytest.mark.parametrize("folder", ["tree", "tree/", "tree//", "./tree", "tree/."])
def test_names_are_relative_however_the_folder_is_written(tmp_path, monkeypatch, folder):
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert set(unpacked(folder)) == {"sub"}


def test_the_folder_may_be_a_link_and_an_empty_one_is_a_tar_too(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert unpacked(tmp_path / "link") == {}
    (tmp_path / "real" / "f").write_text("x")
    assert set(unpacked(tmp_path / "link")) == {"f"}


def test_sockets_and_pipes_stay_behind_with_a_warning(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "file").write_text("x")
        warnings = []
        assert set(unpacked(tmp_path, warnings)) == {"file"}
    assert [f"{tmp_path}/{name}" in warning for name, warning in zip(("pipe", "socket"), warnings, strict=True)] == [
        True
    ] * 2


def test_a_file_that_vanishes_stays_behind_with_a_warning(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"x" * CHUNK)
    warnings = []
    stream = tar(str(tmp_path), warnings.append)
    pieces = [next(stream)]
    (tmp_path / "b").unlink()
    pieces += stream
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        assert archive.getnames() == ["a", "c"]
    assert warnings == [f"Left out {tmp_path}/b: it vanished."]


def test_a_file_that_shrinks_is_an_error_and_one_that_grows_is_taken_as_it_was(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 1000)
    stream = tar(str(tmp_path), print)
    header = next(stream)
    (tmp_path / "f").write_bytes(b"y" * 2000)
    assert len(header + b"".join(stream)) == 512 + 1024 + 1024
    stream = tar(str(tmp_path), print)
    next(stream)
    (tmp_path / "f").write_bytes(b"z")
    with pytest.raises(ClientError, match="became shorter"):
        b"".join(stream)


def test_a_file_that_cannot_be_read_stops_the_upload(tmp_path):
    (tmp_path / "f").symlink_to("f")
    (tmp_path / ".siblingignore").symlink_to(".siblingignore")
    with pytest.raises(ClientError, match=r"\.siblingignore in .* cannot be read: Too many levels"):
        b"".join(tar(str(tmp_path), print))


def test_what_is_ignored_stays_behind_with_all_below_it_and_a_taken_back_file_goes(tmp_path):
    for name in ("keep.log", "drop.log", "node_modules/x/keep.log", "src/a.py", "src/build/b"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".siblingignore").write_text("*.log\n!keep.log\nnode_modules/\n/build\n")
    assert set(unpacked(tmp_path)) == {".siblingignore", "keep.log", "src", "src/a.py", "src/build", "src/build/b"}


@given(st.lists(st.binary(max_size=2 * CHUNK), max_size=5))
def test_sending_in_whole_chunks_and_compressing_change_no_byte(pieces):
    chunks = list(_whole_chunks(iter(pieces)))
    assert b"".join(chunks) == b"".join(pieces)
    assert all(len(chunk) >= CHUNK for chunk in chunks[:-1])
    assert gzip.decompress(b"".join(_compressed(iter(pieces)))) == b"".join(pieces)


def test_near_services_get_a_plain_tar(tmp_path):
    (tmp_path / "f").write_text("x")
    with BuildServer() as server, closing(Connection(server.url)) as connection:
        assert upload(connection, str(tmp_path), Screen()) == SOURCE_ID
    (asked,) = server.wait_for("PUT", "/sources")
    assert asked.headers["Transfer-Encoding"] == "chunked"
    with tarfile.open(fileobj=io.BytesIO(asked.body), mode="r:") as archive:
        assert archive.getnames() == ["f"]


def test_far_services_get_it_compressed(tmp_path):
    (tmp_path / "f").write_bytes(bytes(1_000_000))
    with BuildServer() as server:
        far = server.url.replace("127.0.0.1", "0.0.0.0")  # reaches this machine, and does not look like it
        with closing(Connection(far)) as connection:
            upload(connection, str(tmp_path), Screen())
    (asked,) = server.wait_for("PUT", "/sources")
    assert len(asked.body) < 10_000
    with tarfile.open(fileobj=io.BytesIO(asked.body), mode="r:gz") as archive:
        assert archive.getnames() == ["f"]


def test_an_upload_whose_answer_is_lost_is_sent_again_whole(tmp_path):
    (tmp_path / "f").write_bytes(os.urandom(500_000))
    with BuildServer() as server, closing(Connection(server.url)) as connection:
        server.lost["PUT /v1/sources"] = 1
        assert upload(connection, str(tmp_path), Screen()) == SOURCE_ID
    first, second = server.wait_for("PUT", "/sources", times=2)
    assert first.body == second.body


def test_a_refusal_in_the_middle_of_an_upload_is_heard(tmp_path):
    (tmp_path / "big").write_bytes(bytes(30_000_000))
    problem = {"title": "Content Too Large", "status": 413, "detail": "The upload is over 1 MB (sources.max_upload)."}
    with BuildServer() as server, closing(Connection(server.url)) as connection:
        server.answers["PUT /v1/sources"] = [Answer(413, problem, read_body=False)]
        with pytest.raises(Refused, match="over 1 MB") as refusal:
            upload(connection, str(tmp_path), Screen())
    assert refusal.value.status == 413
    assert len(server.asked) == 1


def test_the_build_names_the_uploaded_source(tmp_path):
    with BuildServer(FakeBuild()) as server:
        client_process.run("run", "--image", "i", "--source", str(tmp_path), "--url", server.url, "--", "true")
    assert f'"id": "{SOURCE_ID}"'.encode() in server.wait_for("POST", "/builds")[0].body


def test_set_uid_bits_do_not_travel(tmp_path):
    (tmp_path / "f").write_text("x")
    (tmp_path / "f").chmod(0o6755)
    member, _ = unpacked(tmp_path)["f"]
    assert not member.mode & (stat.S_ISUID | stat.S_ISGID)
