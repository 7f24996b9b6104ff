import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import NotFound
from agent.files import tree


def descend(top, depth, name="d" * 200):
    """A chain of folders, made name by name, since its path is too long for any call."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    return here


def all_below(top):
    with tree.opened(top) as folder:
        return list(tree.walk(folder, "", lambda path, name: f"{path}{name}/"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/absolute", "a\0b"])
def test_only_a_plain_name_is_a_child(tmp_path, name):
    with pytest.raises(NotFound):
        tree.child(tmp_path, name)


def test_walk_meets_everything_once_and_enters_no_link(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("x")
    (tmp_path / "a" / "loop").symlink_to("..")
    (tmp_path / "out").symlink_to(tmp_path.parent)
    met = sorted(path + entry.name for _, path, entry in all_below(tmp_path))
    assert met == ["a", "a/b", "a/b/file", "a/loop", "out"]


def test_walk_passes_by_what_the_caller_does_not_enter(tmp_path):
    (tmp_path / "left" / "below").mkdir(parents=True)
    (tmp_path / "taken" / "below").mkdir(parents=True)
    with tree.opened(tmp_path) as top:
        met = {
            path + entry.name
            for _, path, entry in tree.walk(top, "", lambda path, name: None if name == "left" else f"{path}{name}/")
        }
    assert met == {"left", "taken", "taken/below"}


def test_walk_goes_deeper_than_any_path_or_stack(tmp_path):
    depth = sys.getrecursionlimit() + 100
    os.close(descend(tmp_path, depth))
    assert len(all_below(tmp_path)) == depth
    tree.remove(tmp_path)  # pytest's own cleaning gives up on what is so deep


def test_walk_stops_where_a_folder_was_moved_away_under_it(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "file").touch()
    (tmp_path / "other").mkdir()
    with tree.opened(tmp_path / "in") as top:
        walk = tree.walk(top, True, lambda known, _: known)
        assert [next(walk)[2].name, next(walk)[2].name] == ["deep", "file"]
        (tmp_path / "in" / "deep").rename(tmp_path / "other" / "deep")
        with pytest.raises(OSError, match="moved"):
            next(walk)


def test_below_follows_no_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with tree.opened(tmp_path) as top:
        with pytest.raises(NotADirectoryError), tree.below(top, ["link"]):
            pass
        with pytest.raises(NotADirectoryError), tree.below(top, ["link", "new"], make=0o700):
            pass
    assert list((tmp_path / "real").iterdir()) == []


def test_removal_of_what_no_path_can_name(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    here = descend(top, 1100)
    os.symlink(tmp_path, "link", dir_fd=here)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.mkfifo("fifo", dir_fd=here)
    os.close(here)
    tree.remove(top)
    assert list(tmp_path.iterdir()) == []


def test_removal_touches_nothing_that_a_link_leads_to(tmp_path):
    outside, top = tmp_path / "outside", tmp_path / "top"
    outside.mkdir(mode=0o750)
    (outside / "file").write_text("stays")
    (top / "a").mkdir(parents=True)
    (top / "a" / "link").symlink_to(outside)
    (top / "link").symlink_to("../outside/file")
    tree.remove(top)
    assert not top.exists()
    assert (outside / "file").read_text() == "stays"
    assert outside.stat().st_mode & 0o777 == 0o750


def test_removal_of_a_link_leaves_its_target(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "link").symlink_to("outside")
    tree.remove(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]


def test_removal_goes_on_with_one_that_was_killed(tmp_path):
    top = tmp_path / "top"
    (top / "removed-0123" / "7" / "below").mkdir(parents=True)
    (top / "removed-4567").mkdir()
    (top / "left").mkdir()
    tree.remove(top)
    assert list(tmp_path.iterdir()) == []


def test_removal_twice_is_no_error(tmp_path):
    (tmp_path / "top").mkdir()
    tree.remove(tmp_path / "top")
    tree.remove(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []


def test_a_wide_tree_is_removed_whole(tmp_path):
    for name in map(str, range(50)):
        (tmp_path / "top" / name / "same" / "same").mkdir(parents=True)
        for number in range(40):
            (tmp_path / "top" / name / "same" / f"{number}").touch()
    tree.remove(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def acting_as(uid):
    """Root's capabilities are gone while another user is in effect."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_owner_who_is_not_root_removes_what_a_build_made_read_only():
    with tempfile.TemporaryDirectory() as home:  # not below tmp_path, where nobody but root may go
        os.chown(home, 4321, 4321)
        with acting_as(4321):
            folders = [Path(home, "top"), Path(home, "top/a"), Path(home, "top/a/b"), Path(home, "top/a/b/c")]
            for folder in folders:
                folder.mkdir()
            (folders[2] / "file").touch()
            for folder in reversed(folders):
                folder.chmod(0o000)
            with pytest.raises(PermissionError):
                next(folders[0].iterdir())
            tree.remove(folders[0])
            assert not folders[0].exists()
