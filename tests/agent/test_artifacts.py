import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.builds import Artifact
from agent.errors import AgentError, InvalidRequest, NotFound, TooLarge
from agent.files import tree
from agent.files.artifact_search import MAX_NOTES, MAX_PATH
from agent.files.artifacts import Artifacts, check_glob

BUILD = "01j0000000000000000000000a"
MIB = 1024**2


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(tmp_path / "artifacts", 10 * MIB, 100)


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


@pytest.fixture
def victim(tmp_path):
    """A file that no build may reach."""
    (tmp_path / "victim").write_text("untouched")
    return tmp_path / "victim"


def write(workspace, *names, content="content"):
    for name in names:
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(content)


def paths(found):
    return [artifact.path for artifact in found]


@pytest.mark.parametrize(
    ("globs", "kept"),
    [
        (["*.xml"], ["top.xml"]),
        (["**/*.xml"], ["a/b/deep.xml", "a/mid.xml", "top.xml"]),
        (["a"], ["a/b/deep.xml", "a/mid.xml", "a/mid.log"]),
        (["a/"], ["a/b/deep.xml", "a/mid.xml", "a/mid.log"]),
        (["a/*"], ["a/b/deep.xml", "a/mid.xml", "a/mid.log"]),
        (["a/*.xml", "./top.xml"], ["a/mid.xml", "top.xml"]),
        (["a/b/**", "**/deep.xml"], ["a/b/deep.xml"]),
        (["nothing", "no/**/thing"], []),
        (["."], ["a/b/deep.xml", "a/mid.xml", "a/mid.log", "top.xml"]),
        ([], []),
    ],
)
def test_the_files_that_match_are_moved(artifacts, workspace, globs, kept):
    write(workspace, "a/b/deep.xml", "a/mid.xml", "a/mid.log", "top.xml")
    found = artifacts.collect(BUILD, workspace, globs)
    assert found == tuple(Artifact(path=path, size=7) for path in sorted(kept))
    assert artifacts.list(BUILD) == found
    left = {str(path.relative_to(workspace)) for path in workspace.rglob("*") if path.is_file()}
    assert left == {"a/b/deep.xml", "a/mid.xml", "a/mid.log", "top.xml"} - set(kept)
    for path in kept:
        assert artifacts.open(BUILD, path).read_text() == "content"


def test_a_build_that_left_nothing_has_no_folder(artifacts, workspace):
    (workspace / "empty").mkdir()
    assert artifacts.collect(BUILD, workspace, ["**"]) == ()
    assert artifacts.ids() == []
    assert artifacts.list(BUILD) == ()


def test_what_is_no_file_is_not_kept_and_told(artifacts, workspace, victim):
    write(workspace, "real")
    (workspace / "link").symlink_to(victim)
    (workspace / "dangling").symlink_to("nowhere")
    (workspace / "out").symlink_to(victim.parent)
    (workspace / "inside").symlink_to("real")
    os.mkfifo(workspace / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(workspace / "socket"))
        notes = []
        found = artifacts.collect(BUILD, workspace, ["*"], notes.append)
    assert paths(found) == ["real"]
    assert sorted(notes) == [
        "not kept: 'dangling', which is a symbolic link",
        "not kept: 'fifo', which is no file",
        "not kept: 'inside', which is a symbolic link",
        "not kept: 'link', which is a symbolic link",
        "not kept: 'out', which is a symbolic link",
        "not kept: 'socket', which is no file",
    ]
    assert victim.read_text() == "untouched"


@pytest.mark.parametrize("kind", ["char", "block"])
def test_devices_are_not_kept(artifacts, workspace, kind):
    os.mknod(workspace / "device", (0o020000 if kind == "char" else 0o060000) | 0o666, os.makedev(1, 3))
    assert artifacts.collect(BUILD, workspace, ["**"]) == ()


def test_nothing_is_taken_through_a_link(artifacts, workspace, victim):
    (victim.parent / "folder").mkdir()
    write(victim.parent / "folder", "secret")
    (workspace / "dist").symlink_to(victim.parent / "folder")
    (workspace / "here").symlink_to(".")
    notes = []
    assert artifacts.collect(BUILD, workspace, ["dist/*", "dist/secret", "here/here/**"], notes.append) == ()
    assert (victim.parent / "folder" / "secret").read_text() == "content"
    assert notes == [f"no artifact matches {glob!r}" for glob in ("dist/*", "dist/secret", "here/here/**")]


def test_a_workspace_that_is_a_link_is_refused(artifacts, workspace, tmp_path):
    write(workspace, "file")
    (tmp_path / "link").symlink_to(workspace)
    with pytest.raises(AgentError, match=BUILD):
        artifacts.collect(BUILD, tmp_path / "link", ["*"])
    assert (workspace / "file").exists()


def test_notes_are_few_however_much_is_left_out(artifacts, workspace):
    for number in range(50):
        (workspace / str(number)).symlink_to("x")
    notes = []
    artifacts.collect(BUILD, workspace, ["*"], notes.append)
    assert len(notes) == MAX_NOTES + 2
    assert f"not kept: {50 - MAX_NOTES} more" in notes


def test_an_artifact_is_the_services_own_and_without_power(artifacts, workspace):
    write(workspace, "run", "secret")
    os.chown(workspace / "run", 12345, 12345)
    (workspace / "run").chmod(0o6755)
    (workspace / "secret").chmod(0o000)
    artifacts.collect(BUILD, workspace, ["*"])
    run, secret = (artifacts.open(BUILD, name).stat() for name in ("run", "secret"))
    assert (run.st_uid, run.st_gid, run.st_mode & 0o7777) == (os.geteuid(), os.getegid(), 0o755)
    assert secret.st_mode & 0o7777 == 0o400


@pytest.mark.parametrize("glob", ["/etc/passwd", "../x", "a/../../x"])
def test_a_glob_that_leads_out_is_refused_at_both_ends(artifacts, workspace, glob):
    with pytest.raises(InvalidRequest):
        check_glob(glob)
    with pytest.raises(InvalidRequest):
        artifacts.collect(BUILD, workspace, [glob])
    check_glob("a/**/b")


def test_over_the_bytes_nothing_is_kept(artifacts, workspace):
    write(workspace, "a", "b", content="x" * 6 * MIB)
    with pytest.raises(TooLarge, match=r"builds\.max_artifacts"):
        artifacts.collect(BUILD, workspace, ["*"])
    assert artifacts.ids() == []


def test_holes_count_as_bytes(artifacts, workspace):
    with (workspace / "holes").open("wb") as file:
        file.truncate(11 * MIB)
    assert (workspace / "holes").stat().st_blocks == 0
    with pytest.raises(TooLarge):
        artifacts.collect(BUILD, workspace, ["*"])


def test_over_the_count_nothing_is_kept(artifacts, workspace):
    write(workspace, *map(str, range(101)), content="")
    with pytest.raises(TooLarge, match=r"builds\.max_artifact_files"):
        artifacts.collect(BUILD, workspace, ["*"])
    assert artifacts.ids() == []


def test_the_limits_themselves_are_allowed(artifacts, workspace):
    write(workspace, "big", content="x" * 10 * MIB)
    write(workspace, *map(str, range(99)), content="")
    assert len(artifacts.collect(BUILD, workspace, ["*"])) == 100


def test_a_workspace_too_wide_to_look_through_is_refused(tmp_path, workspace):
    artifacts = Artifacts(tmp_path / "artifacts", MIB, 10, max_seen=50)
    write(workspace, *(f"wide/{number}" for number in range(60)), "dist/a")
    with pytest.raises(AgentError, match="name their folder"):
        artifacts.collect(BUILD, workspace, ["**/a"])
    assert paths(artifacts.collect(BUILD, workspace, ["dist/**"])) == ["dist/a"]


def test_a_collection_that_was_killed_is_gone_on_with(artifacts, workspace):
    write(workspace, "a", "b/c", "b/d")
    artifacts.collect(BUILD, workspace, ["a", "b/c"])
    assert paths(artifacts.collect(BUILD, workspace, ["**"])) == ["a", "b/c", "b/d"]


def test_what_a_killed_collection_kept_counts(artifacts, workspace):
    write(workspace, "a", content="x" * 6 * MIB)
    artifacts.collect(BUILD, workspace, ["a"])
    write(workspace, "b", content="x" * 6 * MIB)
    with pytest.raises(TooLarge):
        artifacts.collect(BUILD, workspace, ["b"])
    assert artifacts.ids() == []


def test_a_disk_that_refuses_leaves_nothing_kept(tmp_path, workspace):
    artifacts = Artifacts(Path("/dev/shm") / f"sibling-test-{os.getpid()}", MIB, 10)  # another file system
    try:
        write(workspace, "a")
        with pytest.raises(AgentError, match=f"{BUILD} could not be kept: Invalid cross-device link"):
            artifacts.collect(BUILD, workspace, ["a"])
        assert artifacts.ids() == []
    finally:
        tree.remove(Path("/dev/shm") / f"sibling-test-{os.getpid()}")


def test_a_name_that_is_no_text_is_told_and_left(artifacts, workspace):
    write(workspace, "good", "\udcff\udcfe", "ünï\n cödé")
    notes = []
    assert paths(artifacts.collect(BUILD, workspace, ["*"], notes.append)) == ["good", "ünï\n cödé"]
    assert notes == ["not kept: '\\udcff\\udcfe', which is no UTF-8 name"]


def descend(top, depth, name):
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    return here


def test_a_workspace_deeper_than_any_path_gives_what_can_be_named(artifacts, workspace):
    here = descend(workspace, 1100, "d" * 50)
    os.close(os.open("lost", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    write(workspace, "dddd/found")
    notes = []
    assert paths(artifacts.collect(BUILD, workspace, ["**"], notes.append)) == ["dddd/found"]
    assert [f"over {MAX_PATH} bytes" in note for note in notes] == [True]
    tree.remove(workspace)  # pytest's own cleaning gives up on what is so deep


def test_the_longest_path_can_be_opened_and_a_longer_one_is_left(artifacts, workspace):
    deep = "/".join(["d" * 127] * (MAX_PATH // 128))
    assert len(deep) == MAX_PATH - 1
    write(workspace, f"{deep[:-6]}/fits", f"{deep[:-6]}/toolong", "short")
    found = artifacts.collect(BUILD, workspace, ["**"])
    assert paths(found) == [f"{deep[:-6]}/fits", "short"]
    assert artifacts.open(BUILD, found[0].path).read_text() == "content"


@pytest.mark.parametrize("path", ["a//b/./c", "./a/b/c", "/a/b/c", "a/b/c"])
def test_a_path_is_found_however_it_is_written(artifacts, workspace, path):
    write(workspace, "a/b/c")
    artifacts.collect(BUILD, workspace, ["**"])
    assert artifacts.open(BUILD, path).read_text() == "content"


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "/",
        "a",
        "a/b/",
        "a/b/c/d",
        "missing",
        "..",
        "../../victim",
        "a/../../../victim",
        "a/../a/b/c",
        "../" + BUILD + "/a/b/c",
        "/etc/passwd",
        "a\0b",
        "\ud800",
        "n" * 300,
        "n/" * 3000,
    ],
)
def test_no_other_path_leads_anywhere(artifacts, workspace, victim, path):
    write(workspace, "a/b/c")
    artifacts.collect(BUILD, workspace, ["**"])
    with pytest.raises(NotFound):
        artifacts.open(BUILD, path)


def test_a_link_among_the_artifacts_is_not_served(artifacts, workspace, victim, tmp_path):
    write(workspace, "a/b")
    artifacts.collect(BUILD, workspace, ["**"])
    (tmp_path / "artifacts" / BUILD / "link").symlink_to(victim)
    (tmp_path / "artifacts" / BUILD / "folder").symlink_to(victim.parent)
    for path in ("link", "folder/victim"):
        with pytest.raises(NotFound):
            artifacts.open(BUILD, path)
    assert paths(artifacts.list(BUILD)) == ["a/b"]


@pytest.mark.parametrize("build", ["..", "", "a/b", "/absolute"])
def test_what_is_no_id_reaches_nothing(artifacts, workspace, build):
    write(workspace, "a")
    for act in (artifacts.list, artifacts.delete, lambda build: artifacts.open(build, "a")):
        with pytest.raises(NotFound):
            act(build)
    with pytest.raises(NotFound):
        artifacts.collect(build, workspace, ["a"])


def test_deleting_takes_one_builds_artifacts_and_may_come_twice(artifacts, workspace):
    for build in ("one", "two"):
        write(workspace, "a/b")
        artifacts.collect(build, workspace, ["**"])
    artifacts.delete("one")
    artifacts.delete("one")
    assert artifacts.ids() == ["two"]
    with pytest.raises(NotFound):
        artifacts.open("one", "a/b")


def test_a_build_that_is_not_known_has_none(artifacts):
    assert artifacts.list("unknown") == ()
    with pytest.raises(NotFound, match="build unknown has no artifact 'a'"):
        artifacts.open("unknown", "a")


NAMES = st.sampled_from(["a", "b", "c.xml", "link", "..a", "*"])
WAYS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
GLOBS = st.lists(st.sampled_from(["*", "**", "a", "b", "*.xml", "[al]*", "link"]), min_size=1, max_size=4).map("/".join)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(WAYS, st.booleans()), max_size=8), st.lists(GLOBS, max_size=3))
def test_what_is_kept_and_what_is_left_are_all_there_was(tmp_path_factory, entries, globs):
    home = tmp_path_factory.mktemp("home")
    artifacts, workspace = Artifacts(home / "artifacts", MIB, 100), home / "workspace"
    workspace.mkdir()
    made, taken = set(), set()
    for path, is_link in entries:
        place = workspace / path
        if taken & {str(above) for above in place.relative_to(workspace).parents} or place.is_dir() or path in taken:
            continue  # something else stands in its way, or a link that would lead us out
        place.parent.mkdir(parents=True, exist_ok=True)
        taken.add(path)
        if is_link:
            place.symlink_to(home)
        else:
            place.write_text(path)
            made.add(path)
    found = artifacts.collect(BUILD, workspace, globs)
    left = {
        str(path.relative_to(workspace)) for path in workspace.rglob("*") if path.is_file() and not path.is_symlink()
    }
    assert set(paths(found)) | left == made
    assert set(paths(found)) & left == set()
    for artifact in found:
        assert artifacts.open(BUILD, artifact.path).read_text() == artifact.path
