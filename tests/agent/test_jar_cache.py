"""Only jars that are what their name says are kept, and agents get copies of them."""

import hashlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AgentError
from agent.toolkit import jar_cache
from agent.toolkit.jar_cache import harvest, name_of, sow


def name(content):
    return name_of(hashlib.sha256(content).digest())


def put(folder, *contents):
    """A cache with these jars under their right names."""
    for content in contents:
        path = folder / name(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def kept(seeds):
    return {str(path.relative_to(seeds)): path.read_bytes() for path in seeds.rglob("*") if path.is_file()}


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "workspace" / "remoting" / "jarCache"


@pytest.fixture
def seeds(tmp_path):
    return tmp_path / "jars"


def test_a_name_is_what_the_agent_program_looks_for():
    """The digest of nothing is e3b0c442 98fc1c14 9afbf4c8 996fb924 27ae41e4 649b934c a495991b 7852b855."""
    high, low = 0xE3B0C44298FC1C14 ^ 0x27AE41E4649B934C, 0x9AFBF4C8996FB924 ^ 0xA495991B7852B855
    assert name(b"") == f"{high:016X}"[:2] + "/" + f"{high:016X}"[2:] + f"{low:016X}" + ".jar"
    assert name(b"") == "C4/1E85A6FC678F583E6E6DD3E13D0171.jar"


@given(st.binary(max_size=50))
def test_every_name_is_one_that_a_harvest_looks_at(content):
    outer, _, inner = name(content).partition("/")
    assert jar_cache._FOLDER.fullmatch(outer)
    assert jar_cache._JAR.fullmatch(inner)


def test_what_one_agent_fetched_the_next_one_has(cache, seeds, tmp_path):
    contents = [b"one", b"two" * 10**6, b""]
    assert harvest(put(cache, *contents), seeds) == 3
    workspace = tmp_path / "next"
    workspace.mkdir()
    sow(seeds, workspace)
    assert kept(workspace / "remoting" / "jarCache") == {name(content): content for content in contents}
    assert harvest(workspace / "remoting" / "jarCache", seeds) == 0


def test_agents_get_copies_that_everyone_may_read_whatever_the_umask_is(cache, seeds, tmp_path):
    harvest(put(cache, b"one"), seeds)
    before = os.umask(0o077)
    try:
        sow(seeds, tmp_path)
    finally:
        os.umask(before)
    jar = tmp_path / "remoting" / "jarCache" / name(b"one")
    assert jar.stat().st_nlink == 1
    assert jar.stat().st_mode & 0o777 == 0o644
    jar.write_bytes(b"evil")
    assert kept(seeds) == {name(b"one"): b"one"}


def test_a_jar_that_is_not_what_its_name_says_is_not_taken(cache, seeds):
    put(cache, b"right")
    path = cache / name(b"wanted")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"evil")
    (cache / "AA").mkdir(exist_ok=True)
    (cache / "AA" / "other.jar").write_bytes(b"evil")
    (cache / "AA" / name(b"right")[3:]).write_bytes(b"right")
    assert harvest(cache, seeds) == 1
    assert kept(seeds) == {name(b"right"): b"right"}


def test_a_jar_that_is_kept_is_never_replaced(cache, seeds):
    harvest(put(cache, b"right"), seeds)
    (cache / name(b"right")).write_bytes(b"evil")
    assert harvest(cache, seeds) == 0
    assert kept(seeds) == {name(b"right"): b"right"}


def test_nothing_but_files_is_read_and_no_link_is_followed(cache, seeds, tmp_path):
    outside = put(tmp_path / "outside", b"theirs", b"others")
    put(cache, b"right")
    for content, make in [
        (b"theirs", lambda path: path.symlink_to(outside / name(b"theirs"))),
        (b"pipe", os.mkfifo),
        (b"folder", Path.mkdir),
    ]:
        path = cache / name(content)
        path.parent.mkdir(exist_ok=True)
        make(path)
    (cache / name(b"others")).parent.symlink_to((outside / name(b"others")).parent)
    assert harvest(cache, seeds) == 1
    assert kept(seeds) == {name(b"right"): b"right"}


@pytest.mark.parametrize("instead", ["nothing", "file", "link"])
def test_there_need_not_be_a_cache(tmp_path, seeds, instead):
    cache = tmp_path / "cache"
    if instead == "file":
        cache.touch()
    if instead == "link":
        cache.symlink_to(put(tmp_path / "outside", b"theirs"))
    assert harvest(cache, seeds) == 0
    assert kept(seeds) == {}


def test_without_seeds_nothing_is_sown(tmp_path):
    sow(tmp_path / "none", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_those_not_seen_for_longest_make_room(cache, seeds, tmp_path):
    old, seen, new = b"old" * 100, b"see" * 100, b"new" * 100
    harvest(put(cache, old, seen), seeds)
    for age, content in [(300, old), (200, seen)]:
        os.utime(seeds / name(content), (time.time() - age, time.time() - age))
    assert harvest(put(tmp_path / "again", seen), seeds, most=700) == 0
    assert harvest(put(tmp_path / "third", new), seeds, most=700) == 1
    assert set(kept(seeds)) == {name(seen), name(new)}


def test_no_more_than_the_limit_is_read(cache, seeds):
    harvest(put(cache, *(bytes([number]) * 100 for number in range(20))), seeds, most=1000)
    assert len(kept(seeds)) == 10


def test_what_a_killed_harvest_left_is_no_jar(cache, seeds, tmp_path):
    seeds.mkdir()
    (seeds / "unfinished").write_bytes(b"hal")
    sow(seeds, tmp_path)
    assert not cache.exists()
    assert harvest(put(cache, b"half"), seeds) == 1
    assert kept(seeds) == {name(b"half"): b"half"}


def test_a_link_in_the_workspace_is_not_followed(cache, seeds, tmp_path):
    harvest(put(cache, b"one"), seeds)
    workspace, outside = tmp_path / "next", tmp_path / "outside"
    workspace.mkdir()
    outside.mkdir()
    (workspace / "remoting").symlink_to(outside)
    with pytest.raises(AgentError, match="The jars for an agent could not be copied"):
        sow(seeds, workspace)
    assert list(outside.iterdir()) == []


def test_a_disk_that_refuses_is_told(cache, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AgentError, match="The jars for agents could not be kept"):
        harvest(put(cache, b"one"), tmp_path / "file" / "jars")
