"""What two trees of files differ in; that it is what the engine says is tried in tests/e2e/gate/test_walks.py."""

from agent.gate.snapshots import ADDED, DELETED, MODIFIED, differences

TREE = {"/a": 1, "/a/b": 1, "/a/b/c": 1, "/x": 1}


def test_the_same_trees_differ_in_nothing():
    assert [*differences(TREE, TREE)] == []


def test_what_is_new_or_other_is_told_with_its_folders():
    after = {**TREE, "/a/b/c": 2, "/n": 1, "/n/m": 1}
    assert dict(differences(TREE, after)) == {
        "/a": MODIFIED,
        "/a/b": MODIFIED,
        "/a/b/c": MODIFIED,
        "/n": ADDED,
        "/n/m": ADDED,
    }


def test_of_a_folder_that_is_gone_itself_alone_is_told():
    after = {path: told for path, told in TREE.items() if not path.startswith("/a/b")}
    assert [*differences(TREE, after)] == [("/a", MODIFIED), ("/a/b", DELETED)]
