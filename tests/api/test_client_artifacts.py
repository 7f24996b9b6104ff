"""Artifacts arrive whole, and never outside of the folder, whatever the service claims."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from api.client.artifacts import fetch
from api.client.connection import Connection
from api.client.errors import ClientError, Refused
from api.client.terminal import Screen
from tests.api import client_process
from tests.fakes.build_server import Answer, BuildServer, FakeBuild


def fetched(folder, **options):
    with BuildServer() as server, closing(Connection(server.url)) as connection:
        build = server.add(FakeBuild(**options))
        build.finished.set()
        fetch(connection, build.as_json(), str(folder), Screen())
    return server


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_arrive_in_their_folders_with_any_name(tmp_path):
    artifacts = {"a": b"", "sub/dir/b": os.urandom(300_000), "sp ace/é%2F?#.txt": b"x", "..dots": b"y"}
    fetched(tmp_path / "out", artifacts=artifacts)
    assert tree(tmp_path / "out") == artifacts


def test_a_download_that_is_cut_goes_on_where_it_was(tmp_path):
    data = os.urandom(500_000)
    server = fetched(tmp_path, artifacts={"f": data}, artifact_cuts={"f": 123_456})
    first, second = server.wait_for("GET", "/f", times=2)
    assert "Range" not in first.headers
    assert second.headers["Range"] == "bytes=123456-"
    assert tree(tmp_path) == {"f": data}


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/evil", "a/../../evil", "a/./b", "", "a//b", "..", ".", "a/", "a\0b", "link/evil"]
)
def test_nothing_is_written_outside_of_the_folder(tmp_path, path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to(tmp_path)
    with pytest.raises(ClientError, match="outside of"):
        fetched(out, artifacts={path: b"evil"})
    assert tree(tmp_path) == {}


def test_a_file_that_is_a_link_is_replaced_not_followed(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "precious").write_text("precious")
    (out / "f").symlink_to(tmp_path / "precious")
    fetched(out, artifacts={"f": b"new"})
    assert (tmp_path / "precious").read_text() == "precious"
    assert tree(out) == {"f": b"new"}


def test_links_within_the_folder_are_the_persons_own_business(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    fetched(tmp_path, artifacts={"link/f": b"x"})
    assert (tmp_path / "real" / "f").read_bytes() == b"x"


def test_an_artifact_that_cannot_be_had_leaves_no_part_of_it(tmp_path):
    with BuildServer() as server, closing(Connection(server.url)) as connection:
        build = server.add(FakeBuild(artifacts={"f": b"x"}))
        build.finished.set()
        server.answers[f"GET /v1/builds/{build.id}/artifacts/f"] = [Answer(404, {"detail": "It is gone."})]
        with pytest.raises(Refused, match=r"It is gone\."):
            fetch(connection, build.as_json(), str(tmp_path), Screen())
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_of_another_size_than_announced_is_not_kept(tmp_path):
    with BuildServer() as server, closing(Connection(server.url)) as connection:
        build = server.add(FakeBuild(artifacts={"f": b"12345"}))
        build.finished.set()
        announced = {**build.as_json(), "artifacts": [{"path": "f", "size": 4}]}
        with pytest.raises(ClientError, match="5 bytes instead of 4"):
            fetch(connection, announced, str(tmp_path), Screen())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_told_in_a_sentence(tmp_path):
    (tmp_path / "f").mkdir()
    with pytest.raises(ClientError, match=r"The artifact f cannot be written to .*: Is a directory\."):
        fetched(tmp_path, artifacts={"f": b"x"})
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_run_fetches_them_also_after_a_failure_and_only_when_asked(tmp_path):
    def run(*options):
        build = FakeBuild(result="FAILURE", exit_code=3, artifacts={"report.xml": b"<x/>"})
        with BuildServer(build) as server:
            return client_process.run("run", "--image", "i", "--url", server.url, *options, "--", "true", cwd=tmp_path)

    assert run().returncode == 3
    assert list(tmp_path.iterdir()) == []
    assert run("--artifact", "*.xml").returncode == 3
    assert tree(tmp_path) == {"artifacts/report.xml": b"<x/>"}


def test_a_successful_build_whose_artifacts_cannot_be_written_is_no_success(tmp_path):
    (tmp_path / "out").write_text("a file")
    with BuildServer(FakeBuild(artifacts={"a/f": b"x"})) as server:
        options = ("--artifact", "**", "--output", str(tmp_path / "out"))
        ended = client_process.run("run", "--image", "i", "--url", server.url, *options, "--", "true")
    summary, error = ended.stderr.decode().splitlines()
    assert ended.returncode == 125
    assert summary.startswith("[sibling] SUCCESS")
    assert "cannot be written" in error
