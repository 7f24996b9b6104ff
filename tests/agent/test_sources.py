import hashlib
import io
import os
import resource
import tarfile
import threading
import time

import pytest

from agent.errors import InvalidArchive, NotFound, TooLarge, Unavailable
from agent.files.sources import Source, Sources
from agent.settings import SourceSettings

KEEP = 3600.0


def tar_of(names, content=b"content"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def upload(sources, data, piece=1000):
    begun = sources.begin()
    for at in range(0, len(data), piece):
        begun.write(data[at : at + piece])
    return begun.commit()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def unused_for(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "sources"


@pytest.fixture
def sources(folder):
    return Sources(folder, SourceSettings(keep=KEEP, max_upload="1m", max_files=10))


def test_an_upload_is_kept_byte_for_byte_under_its_hash(sources, folder):
    data = tar_of(["a", "b/c"])
    source = upload(sources, data)
    digest = hashlib.sha256(data).hexdigest()[:32]
    assert source == Source(id=f"src-{digest}", size=len(data), files=3, unpacked_size=14)
    assert sources.path(source.id).read_bytes() == data
    assert names_in(folder) == [source.id]


def test_the_same_tree_twice_is_one_file(sources, folder):
    first, second = upload(sources, tar_of(["a"])), upload(sources, tar_of(["a"]), piece=7)
    assert first == second
    assert names_in(folder) == [first.id]


def test_the_same_tree_sent_by_many_at_once_is_one_file(sources, folder):
    data = tar_of(["a"], bytes(200_000))
    begun, ids = threading.Barrier(8), []

    def send():
        mine = sources.begin()
        begun.wait()
        for at in range(0, len(data), 1000):
            mine.write(data[at : at + 1000])
        ids.append(mine.commit().id)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert names_in(folder) == [ids[0]]
    assert sources.path(ids[0]).read_bytes() == data


def test_only_the_owner_can_read_it(sources, folder):
    source = upload(sources, tar_of(["a"]))
    assert folder.stat().st_mode & 0o077 == 0
    assert sources.path(source.id).stat().st_mode & 0o077 == 0


def test_more_than_the_limit_is_refused_while_it_comes(sources, folder):
    begun = sources.begin()
    begun.write(bytes(1024**2))
    with pytest.raises(TooLarge, match=r"sources\.max_upload"):
        begun.write(b"x")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 1024**2
    begun.abort()
    assert names_in(folder) == []


def test_a_dangerous_archive_is_refused_and_not_kept(sources, folder):
    with pytest.raises(InvalidArchive, match=r"\.\./out"):
        upload(sources, tar_of(["../out"]))
    assert [name for name in names_in(folder) if name.startswith("src-")] == []


@pytest.mark.parametrize("data", [b"", b"no tar", bytes(511), tar_of(["a"])[:600]])
def test_what_is_no_whole_archive_is_refused(sources, folder, data):
    begun = sources.begin()
    begun.write(data)
    with pytest.raises(InvalidArchive):
        begun.commit()
    begun.abort()
    assert names_in(folder) == []


def test_an_abort_leaves_nothing_and_may_come_twice(sources, folder):
    begun = sources.begin()
    begun.write(b"half")
    begun.abort()
    begun.abort()
    assert names_in(folder) == []


def test_an_abort_after_the_commit_changes_nothing(sources):
    begun = sources.begin()
    begun.write(tar_of(["a"]))
    source = begun.commit()
    begun.abort()
    assert sources.path(source.id).exists()


def test_uploads_that_a_crash_cut_off_are_gone_at_the_next_start(sources, folder):
    kept = upload(sources, tar_of(["a"]))
    begun = sources.begin()
    begun.write(b"half")
    assert len(names_in(folder)) == 2
    Sources(folder, SourceSettings())
    assert names_in(folder) == [kept.id]
    begun.abort()


@pytest.mark.parametrize("source_id", ["src-" + "0" * 32, "", "src-", "..", "src-/../../x", "/etc/passwd", "a\0b"])
def test_an_unknown_id_is_not_found(sources, source_id):
    with pytest.raises(NotFound):
        sources.path(source_id)
    with pytest.raises(NotFound):
        sources.touch(source_id)


def test_an_upload_on_its_way_has_no_id(sources, folder):
    begun = sources.begin()
    with pytest.raises(NotFound):
        sources.path(names_in(folder)[0])
    begun.abort()


def test_what_nobody_used_for_long_is_removed(sources, folder):
    old, used, recent = (upload(sources, tar_of([name])) for name in ("old", "used", "recent"))
    for source in (old, used):
        unused_for(folder / source.id, KEEP + 60)
    unused_for(folder / recent.id, KEEP - 60)
    sources.remove_unused({used.id}, time.time())
    assert names_in(folder) == sorted([used.id, recent.id])


def test_a_touch_and_a_second_upload_are_uses(sources, folder):
    touched, sent_again = upload(sources, tar_of(["a"])), upload(sources, tar_of(["b"]))
    for source in (touched, sent_again):
        unused_for(folder / source.id, KEEP + 60)
    sources.touch(touched.id)
    upload(sources, tar_of(["b"]))
    sources.remove_unused([], time.time())
    assert names_in(folder) == sorted([touched.id, sent_again.id])


def test_what_was_touched_is_never_removed_at_that_moment(sources, folder):
    """Whoever was told by `touch` that a source is there finds it, even if its removal has begun."""
    source = upload(sources, tar_of(["a"]))
    unused_for(folder / source.id, KEEP + 60)
    told = []

    def touch():
        try:
            sources.touch(source.id)
            told.append("there")
        except NotFound:
            told.append("gone")

    touching = threading.Thread(target=touch)

    class TouchedWhenAsked(list):
        def __contains__(self, _):
            touching.start()
            touching.join(0.5)  # until it is done, or long enough for it to be waiting
            return False

    sources.remove_unused(TouchedWhenAsked(), time.time())
    touching.join()
    assert told == ["there" if (folder / source.id).exists() else "gone"]


def test_uploads_on_their_way_are_not_removed(sources, folder):
    begun = sources.begin()
    unused_for(folder / names_in(folder)[0], KEEP + 60)
    sources.remove_unused([], time.time())
    begun.write(tar_of(["a"]))
    assert sources.path(begun.commit().id).exists()


def test_a_disk_that_takes_no_more_is_told_as_something_that_passes(sources, folder):
    begun = sources.begin()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        begun.write(bytes(5_000))
        with pytest.raises(Unavailable, match="File too large"):
            begun.write(bytes(100_000))
        begun.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(folder) == []
