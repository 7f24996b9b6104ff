import os
import tempfile
from pathlib import Path

import pytest

from agent.errors import AgentError, NotFound
from agent.files.workspace import Workspaces

BUILD = "01j0000000000000000000000a"


@pytest.fixture
def workspaces(tmp_path):
    return Workspaces(tmp_path / "workspaces")


@pytest.fixture
def outside(tmp_path):
    """What a build's links would like to lead us to."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_text("untouched")
    before = owners(tmp_path / "outside"), mode(tmp_path / "outside")
    yield tmp_path / "outside"
    assert (tmp_path / "outside" / "victim").read_text() == "untouched"
    assert (owners(tmp_path / "outside"), mode(tmp_path / "outside")) == before


def owners(top):
    return {str(path.relative_to(top)): (path.lstat().st_uid, path.lstat().st_gid) for path in [top, *top.rglob("*")]}


def mode(path):
    return path.stat().st_mode & 0o7777


def fill(top, outside):
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    (top / "a" / "out").symlink_to(outside)
    (top / "victim").symlink_to(outside / "victim")
    (top / "loop").symlink_to(".")
    os.mkfifo(top / "a" / "fifo")


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_a_fresh_workspace_can_be_read_by_everyone_and_written_by_its_owner(workspaces, umask):
    before = os.umask(umask)
    try:
        made = workspaces.make(BUILD)
    finally:
        os.umask(before)
    assert mode(made) == 0o755
    assert made == workspaces.path(BUILD)
    assert list(made.iterdir()) == []


def test_what_an_earlier_attempt_left_is_gone(workspaces, outside):
    fill(workspaces.make(BUILD), outside)
    assert list(workspaces.make(BUILD).iterdir()) == []


def test_a_link_in_its_place_is_replaced_and_not_followed(workspaces, outside):
    workspaces.path(BUILD).symlink_to(outside)
    assert list(workspaces.make(BUILD).iterdir()) == []
    assert not workspaces.path(BUILD).is_symlink()


def test_all_of_it_is_given_to_the_user_and_nothing_else(workspaces, outside):
    made = workspaces.make(BUILD)
    fill(made, outside)
    workspaces.give_to(BUILD, 12345, 54321)
    assert set(owners(made).values()) == {(12345, 54321)}


def test_a_workspace_deeper_than_any_path_is_given_and_removed(workspaces):
    here = os.open(workspaces.make(BUILD), os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d" * 100, dir_fd=here)
        deeper = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    workspaces.give_to(BUILD, 12345, 54321)
    assert os.fstat(here).st_uid == 12345
    os.close(here)
    workspaces.remove(BUILD)
    assert workspaces.ids() == []


def test_removal_leaves_what_links_lead_to_and_other_builds(workspaces, outside):
    fill(workspaces.make(BUILD), outside)
    other = workspaces.make("other")
    workspaces.remove(BUILD)
    assert workspaces.ids() == ["other"]
    assert other.is_dir()


def test_removal_may_come_twice_or_before_anything_was_made(workspaces):
    workspaces.remove(BUILD)
    workspaces.make(BUILD)
    workspaces.remove(BUILD)
    workspaces.remove(BUILD)
    assert workspaces.ids() == []


def test_a_build_that_locked_itself_out_is_removed(workspaces):
    made = workspaces.make(BUILD)
    (made / "locked" / "below").mkdir(parents=True)
    (made / "locked" / "below").chmod(0)
    (made / "locked").chmod(0)
    made.chmod(0)
    workspaces.give_to(BUILD, 12345, 54321)
    workspaces.remove(BUILD)
    assert workspaces.ids() == []


def test_ids_are_the_builds_that_have_one(workspaces):
    for build in ("one", "two"):
        workspaces.make(build)
    assert sorted(workspaces.ids()) == ["one", "two"]


@pytest.mark.parametrize("build", ["..", ".", "", "a/b", "../outside", "{outside}"])
def test_what_is_no_id_reaches_nothing(workspaces, outside, build):
    build = build.format(outside=outside)
    for act in (workspaces.path, workspaces.make, workspaces.remove, lambda build: workspaces.give_to(build, 1, 1)):
        with pytest.raises(NotFound):
            act(build)


def test_a_restart_finds_what_is_there(workspaces, tmp_path):
    workspaces.make(BUILD)
    assert Workspaces(tmp_path / "workspaces").ids() == [BUILD]


def test_a_disk_that_refuses_is_told_with_the_build(outside):
    with tempfile.TemporaryDirectory() as home:
        workspaces = Workspaces(Path(home, "workspaces"))
        workspaces.make(BUILD)
        os.chown(home, 4321, 4321)
        os.seteuid(4321)  # without root's capabilities
        try:
            with pytest.raises(AgentError, match=f"{BUILD} could not be given to its user: Operation not permitted"):
                workspaces.give_to(BUILD, 1, 1)
            with pytest.raises(AgentError, match=f"{BUILD} could not be removed"):
                workspaces.remove(BUILD)
        finally:
            os.seteuid(0)
