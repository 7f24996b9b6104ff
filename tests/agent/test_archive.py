import errno
import gzip
import io
import os
import random
import resource
import stat
import subprocess
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import InvalidArchive, SourceFailed
from agent.files import archive
from agent.settings import SourceSettings
from agent.stop import Stopped

LIMITS = SourceSettings(max_unpacked="64m", max_files=1000)
KINDS = {
    "file": tarfile.REGTYPE,
    "folder": tarfile.DIRTYPE,
    "link": tarfile.SYMTYPE,
    "hard": tarfile.LNKTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "sparse": tarfile.GNUTYPE_SPARSE,
    "volume": b"V",
}


def member(name, kind="file", content=b"content", target="", **values):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = KINDS[kind], target, 0o644, 1_000_000_000
    info.size = len(content) if kind == "file" else 0
    for key, value in values.items():
        setattr(info, key, value)
    return info, content


def tar_of(*members, tar_format=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as made:
        for info, content in members:
            made.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def unpack(tar, into, limits=LIMITS, owner=None, cancelled=lambda: False):
    archive.unpack(tar, into, limits, owner=owner, cancelled=cancelled)


def tree_of(top):
    """Everything below a folder: its kind, mode, time, and content or target."""
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        what = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        mode = None if path.is_symlink() else stat.S_IMODE(status.st_mode)
        found[str(path.relative_to(top))] = (stat.S_IFMT(status.st_mode), mode, status.st_mtime_ns, what)
    return found


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


class Place:
    """A folder to unpack into, and around it what an attack would like to reach."""

    def __init__(self, folder):
        self.tar = folder / "archive"
        self.into = folder / "deep" / "into"
        self.outside = folder / "deep" / "outside"
        self.into.mkdir(parents=True)
        self.outside.mkdir()
        (self.outside / "victim").write_text("untouched")
        self.tar.touch()
        self._around = self.around()

    def around(self):
        return tree_of(self.outside), names_in(self.into.parent), names_in(self.into.parent.parent)

    def refuses(self, data, limits=LIMITS):
        """Both looks at it refuse it for the same reason, and nothing of it is anywhere."""
        self.tar.write_bytes(data)
        with pytest.raises(InvalidArchive) as checked:
            archive.check(self.tar, limits)
        with pytest.raises(InvalidArchive) as unpacked:
            unpack(self.tar, self.into, limits)
        assert str(checked.value) == str(unpacked.value)
        assert list(self.into.iterdir()) == []
        assert self.around() == self._around
        return str(checked.value)

    def accepts(self, data, limits=LIMITS):
        self.tar.write_bytes(data)
        summary = archive.check(self.tar, limits)
        unpack(self.tar, self.into, limits)
        assert self.around() == self._around
        return summary


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "place")


ESCAPES = {
    "an absolute path": [member("/nonexistent/victim")],
    "a way up": [member("../outside/victim")],
    "a way up in the middle": [member("a/../../outside/victim")],
    "a way up that comes back": [member("a/../b")],
    "a folder above": [member("..", "folder")],
    "a character device": [member("null", "char", devmajor=1, devminor=3)],
    "a block device": [member("sda", "block", devmajor=8, devminor=0)],
    "a FIFO": [member("fifo", "fifo")],
    "a sparse file": [member("holes", "sparse")],
    "a volume label": [member("label", "volume")],
    "an absolute link": [member("l", "link", target="/nonexistent/victim")],
    "a link out": [member("l", "link", target="../outside")],
    "a link out from deep": [member("a/b/l", "link", target="../../../outside/victim")],
    "a link that goes up from a link": [
        member("a/b/up", "link", target="../.."),
        member("l", "link", target="a/b/up/../outside"),
    ],
    "the same, in the other order": [
        member("l", "link", target="a/b/up/../outside"),
        member("a/b/up", "link", target="../.."),
    ],
    "a link to nothing": [member("l", "link", target="")],
    "a link too long": [member("l", "link", target="a/" * 2048)],
    "a file through a link": [member("l", "link", target="a"), member("l/file")],
    "a file through a link to here": [member("l", "link", target="."), member("l/file")],
    "a folder through a link": [member("l", "link", target="a"), member("l/b", "folder")],
    "a hard link through a link": [
        member("l", "link", target="."),
        member("file"),
        member("hard", "hard", target="l/file"),
    ],
    "a hard link out": [member("hard", "hard", target="../outside/victim")],
    "a hard link to an absolute path": [member("hard", "hard", target="/nonexistent/victim")],
    "a hard link to nothing before": [member("hard", "hard", target="later"), member("later")],
    "a hard link to a link": [member("l", "link", target="x"), member("hard", "hard", target="l")],
    "a hard link to a folder": [member("d", "folder"), member("hard", "hard", target="d")],
    "a hard link to itself": [member("file"), member("file", "hard", target="file")],
    "a file below a file": [member("file"), member("file/below")],
    "a file in place of a folder": [member("a/b"), member("a")],
    "a link in place of a folder": [member("a/b"), member("a", "link", target=".")],
    "a file without a name": [member(".")],
    "a link without a name": [member("./", "link", target="x")],
    "a NUL": [member("a\0b", pax_headers={"path": "a\0b"})],
    "a NUL in a target": [member("l", "link", pax_headers={"linkpath": "a\0b"})],
    "a name too long": [member("n" * 256)],
    "a path too long": [member("a/" * 2048 + "b")],
}


@pytest.mark.parametrize("attack", ESCAPES)
def test_refused_with_nothing_left_and_nothing_touched(place, attack):
    before = [member("first"), member("folder/second")]
    sentence = place.refuses(tar_of(*before, *ESCAPES[attack]))
    assert any(repr(info.name)[1:50] in sentence for info, _ in ESCAPES[attack])


def test_pax_sparse_files_are_refused(place):
    record = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**50)}
    assert "sparse" in place.refuses(tar_of(member("holes", pax_headers=record)))


def test_links_that_stay_inside_are_kept_as_they_are(place):
    place.accepts(
        tar_of(
            member("a/b/up", "link", target="../../a/file"),
            member("a/file"),
            member("a/dangling", "link", target="nowhere"),
            member("here", "link", target="a//./b"),
        )
    )
    assert (place.into / "a/b/up").read_bytes() == b"content"
    assert os.readlink(place.into / "a/b/up") == "../../a/file"  # noqa: PTH115 - by descriptor
    assert os.readlink(place.into / "here") == "a//./b"  # noqa: PTH115 - by descriptor


def test_a_later_file_replaces_a_link_and_does_not_write_through_it(place):
    place.accepts(tar_of(member("a"), member("l", "link", target="a"), member("l", content=b"new")))
    assert (place.into / "a").read_bytes() == b"content"
    assert (place.into / "l").read_bytes() == b"new"
    assert not (place.into / "l").is_symlink()


def test_a_later_file_replaces_a_hard_link_and_leaves_the_other_name(place):
    place.accepts(tar_of(member("a"), member("b", "hard", target="a"), member("b", content=b"new")))
    assert (place.into / "a").read_bytes() == b"content"
    assert (place.into / "b").read_bytes() == b"new"


def test_a_folder_replaces_a_link_and_is_a_real_one(place):
    place.accepts(
        tar_of(member("a/x"), member("l", "link", target="a"), member("l", "folder", mode=0o755), member("l/f"))
    )
    assert (place.into / "l/f").read_bytes() == b"content"
    assert not (place.into / "a/f").exists()


def test_hard_links_are_one_file(place):
    place.accepts(tar_of(member("d/a"), member("b", "hard", target="./d//a")))
    assert (place.into / "d/a").stat().st_ino == (place.into / "b").stat().st_ino


def test_modes_and_times_are_kept_but_not_what_gives_power(place):
    place.accepts(
        tar_of(
            member("d", "folder", mode=0o7555, mtime=1_111_111_111.25),
            member("d/run", mode=0o6755, mtime=1_222_222_222.5),
            member("d/l", "link", target="run", mtime=1_333_333_333),
            member("d/secret", mode=0o400),
            member("implied/file"),
        )
    )
    found = {name: (mode, ns) for name, (_, mode, ns, _) in tree_of(place.into).items()}
    assert found["d"] == (0o555, 1_111_111_111_250_000_000)
    assert found["d/run"] == (0o755, 1_222_222_222_500_000_000)
    assert found["d/l"] == (None, 1_333_333_333_000_000_000)
    assert found["d/secret"][0] == 0o400
    assert found["implied"][0] == 0o755


@pytest.mark.parametrize("mtime", [2.0**70, -(2.0**70), -1.5, 1e300])
def test_a_time_that_no_file_can_have_is_brought_near(place, mtime):
    place.accepts(tar_of(member("a", pax_headers={"mtime": str(mtime)}), member("d", "folder", mtime=mtime)))
    assert (place.into / "a").exists()


def test_the_modes_do_not_depend_on_the_umask(place):
    before = os.umask(0o077)
    try:
        place.accepts(tar_of(member("d/file", mode=0o666)))
    finally:
        os.umask(before)
    assert (place.into / "d/file").stat().st_mode & 0o777 == 0o666
    assert (place.into / "d").stat().st_mode & 0o777 == 0o755


def test_everything_belongs_to_the_owner(place):
    place.tar.write_bytes(
        tar_of(
            member("d/e/file", mode=0o4755), member("l", "link", target="d"), member("hard", "hard", target="d/e/file")
        )
    )
    unpack(place.tar, place.into, owner=(12345, 54321))
    owners = {(p.lstat().st_uid, p.lstat().st_gid) for p in [place.into, *place.into.rglob("*")]}
    assert owners == {(12345, 54321)}
    assert (place.into / "d/e/file").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_as_long_as_a_file_system_takes(place, tar_format):
    name = "é" * 127 + "/" + "/".join(["n" * 255] * 14)
    place.accepts(tar_of(member(name), member("l", "link", target=name), tar_format=tar_format))
    assert (place.into / name).read_bytes() == b"content"


def test_a_tree_deeper_than_the_stack(place):
    depth = sys.getrecursionlimit() + 100
    place.accepts(tar_of(member("d/" * depth + "f")), SourceSettings(max_files=3000))
    assert names_in(place.into) == ["d"]
    archive.tree.remove(place.into)  # pytest's own cleaning gives up on what is so deep


def test_a_name_that_is_not_utf_8_is_kept_byte_by_byte(place):
    place.accepts(tar_of(member("\udcff\udcfe")))
    assert list(map(os.fsencode, names_in(place.into))) == [b"\xff\xfe"]


def test_the_summary_counts_files_folders_links_and_bytes(place):
    summary = place.accepts(
        tar_of(member("./", "folder"), member("a/b/file", content=b"x" * 1000), member("l", "link", target="a"))
    )
    # "./" and the two folders that nobody named, the file and the link
    assert summary == archive.ArchiveSummary(files=5, unpacked_size=1000)


def compress_in_frames(data):
    """As pzstd does: a frame to skip, then frames that cut the tar anywhere."""
    cuts = [data[at : at + 700] for at in range(0, len(data), 700)]
    return b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip" + b"".join(map(zstandard.compress, cuts))


@pytest.mark.parametrize(
    "compress",
    [
        bytes,
        gzip.compress,
        zstandard.compress,
        compress_in_frames,
        lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
        lambda data: gzip.compress(data) + bytes(512),  # as written to tapes
        zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27)).compress,
        lambda data: data + b"what follows the end is ignored" * 100,
        lambda data: gzip.compress(data + b"what follows the end is ignored" * 100),
    ],
    ids=["plain", "gzip", "zstd", "zstd frames", "gzip members", "gzip padded", "wide zstd", "more", "more in gzip"],
)
def test_compressions(place, compress):
    content = random.Random(1).randbytes(1_000_000)
    place.accepts(compress(tar_of(member("a"), member("d/big", content=content))))
    assert (place.into / "d/big").read_bytes() == content


@pytest.mark.parametrize("program", ["gnu", "oldgnu", "pax", "ustar", "v7"])
def test_what_the_tar_program_writes(place, tmp_path, program):
    made = tmp_path / "made"
    (made / "folder" / "below").mkdir(parents=True)
    (made / "folder" / "below" / ("long" * 15)).write_text("content")
    (made / "folder" / "hard").hardlink_to(made / "folder" / "below" / ("long" * 15))
    (made / "folder" / "link").symlink_to("below")
    (made / "run").write_text("#!/bin/sh\n")
    (made / "run").chmod(0o755)
    data = subprocess.run(["tar", f"--format={program}", "-C", made, "-c", "."], check=True, capture_output=True).stdout
    place.accepts(data)
    ours, theirs = tree_of(place.into), tree_of(made)
    assert ours.keys() == theirs.keys()
    for name, (kind, mode, ns, what) in theirs.items():
        assert ours[name][:2] == (kind, mode)
        assert ours[name][2] // 10**9 == ns // 10**9
        assert ours[name][3] == what


def repeated(piece, size, total):
    """Compressed pieces in a row, which is valid gzip and zstd."""
    return piece * (total // size)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_ten_gigabytes_of_zeros_stop_at_the_limit_in_flat_memory(tmp_path, compress):
    zeros = 64 * 1024**2
    head = member("zeros")[0]
    head.size = 10 * 1024**3
    bomb = compress(head.tobuf(tarfile.GNU_FORMAT)) + repeated(compress(bytes(zeros)), zeros, 10 * 1024**3)
    (tmp_path / "bomb").write_bytes(bomb)
    (tmp_path / "into").mkdir()
    checking, unpacking = (
        run_measured(call, max_unpacked=512 * 1024**2)
        for call in (
            f"archive.check(Path('{tmp_path}/bomb'), limits)",
            f"archive.unpack(Path('{tmp_path}/bomb'), Path('{tmp_path}/into'), limits, owner=None, cancelled=bool)",
        )
    )
    assert "sources.max_unpacked" in checking[0]
    assert checking[0] == unpacking[0]
    assert max(checking[1], unpacking[1]) < 32 * 1024**2
    assert list((tmp_path / "into").iterdir()) == []


def test_a_bomb_behind_the_end_mark_stops_at_the_limit(place):
    place.refuses(gzip.compress(tar_of(member("a")) + bytes(LIMITS.max_unpacked)))


def run_measured(call, **limits):
    """The refusal that a call ends in, in a process of its own, and by how many bytes its memory grew at most."""
    program = f"""
import resource
from pathlib import Path
from agent.files import archive
from agent.errors import InvalidArchive
from agent.settings import SourceSettings
limits = SourceSettings(**{limits!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    {call}
except InvalidArchive as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    kib, refusal = done.stdout.split(" ", 1)
    return refusal, int(kib) * 1024


def test_an_archive_of_headers_alone_stops_at_the_limits(place):
    few = SourceSettings(max_files=100, max_unpacked="64m")
    assert "sources.max_files" in place.refuses(tar_of(*[member(f"{n}", "folder") for n in range(101)]), few)
    assert "sources.max_files" in place.refuses(tar_of(*[member("same") for _ in range(101)]), few)
    assert "sources.max_files" in place.refuses(tar_of(member("d/" * 101 + "f")), few)
    small = SourceSettings(max_unpacked=512 * 50)
    assert "sources.max_unpacked" in place.refuses(tar_of(*[member(f"{n}", "folder") for n in range(51)]), small)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_an_extended_header_that_says_it_is_huge_is_not_read(place, kind):
    head = tarfile.TarInfo("x")
    head.type, head.size = kind, 2**40
    assert "extended header" in place.refuses(gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + bytes(10_000_000)))


def test_names_that_fill_the_memory_stop_before(tmp_path):
    """The longest names there can be, each told of by a few compressed bytes."""
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as bomb:
        for number in range(20_000):
            name = f"{number:06}/" + "/".join(["n" * 255] * 15)
            bomb.write(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
        bomb.write(bytes(1024))
    refusal, grown = run_measured(f"archive.check(Path('{tmp_path}/bomb'), limits)", max_files=50_000)
    assert "sources.max_files" in refusal
    assert grown < 64 * 1024**2


def test_an_archive_cut_off_anywhere_is_refused(place):
    whole = tar_of(member("a", content=b"x" * 600), member("n" * 150), member("b/c"))
    end = len(whole.rstrip(b"\0")) + 512  # the last byte of data and the end mark are whole beyond this
    for cut in [0, 1, 511, 512, 513, *range(600, end // 512 * 512, 307)]:
        assert "refused" not in place.refuses(whole[:cut])


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_compressed_archive_cut_off_anywhere_is_refused(place, compress):
    whole = compress(tar_of(member("a", content=random.Random(2).randbytes(20_000)), member("b/c")))
    for cut in range(4, len(whole) - 40, 1009):
        place.refuses(whole[:cut])


def test_gzip_that_lost_its_checksum_is_refused(place):
    whole = gzip.compress(tar_of(member("a")))
    place.refuses(whole[:-1])
    place.refuses(whole[:-8] + bytes(8))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_never_ends_in_anything_but_a_refusal_or_the_tree(data):
    compress = data.draw(st.sampled_from([bytes, gzip.compress, zstandard.compress]))
    whole = bytearray(
        compress(tar_of(member("a", content=bytes(range(256)) * 8), member("d/b"), member("d", "folder")))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with fresh_place() as place:
        try:
            place.accepts(bytes(whole))
        except InvalidArchive:
            place.refuses(bytes(whole))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000), st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"]))
def test_noise_is_refused(noise, magic):
    with fresh_place() as place:
        place.refuses(magic + b"n" + noise)


@contextmanager
def fresh_place():
    with tempfile.TemporaryDirectory() as folder:
        yield Place(Path(folder))


PARTS = st.sampled_from(["a", "b", "c", "l", ".", "..", ""])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
MEMBERS = st.builds(
    lambda name, kind, target, content, mode: member(name, kind, content=content, target=target, mode=mode),
    PATHS,
    st.sampled_from(["file", "file", "folder", "link", "link", "hard", "fifo"]),
    PATHS,
    st.binary(max_size=20),
    st.integers(0, 0o7777),
)


def is_loop(path):
    """Whether links lead in a circle: nowhere, for the kernel, while realpath makes up a path outside."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


@settings(max_examples=200, deadline=None)
@given(st.lists(MEMBERS, max_size=8))
def test_no_archive_leads_out(members):
    """Whatever is accepted, every link in it, followed to its end by the kernel's rules, ends inside."""
    with fresh_place() as place:
        data = tar_of(*members)
        try:
            place.accepts(data)
        except InvalidArchive:
            place.refuses(data)
        top = os.path.realpath(place.into)
        for path in place.into.rglob("*"):
            if not is_loop(path):
                assert (os.path.realpath(path) + "/").startswith(top + "/")
            assert stat.S_IFMT(path.lstat().st_mode) in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}
            assert path.is_symlink() or path.lstat().st_mode & 0o7000 == 0


NAMES = st.lists(st.sampled_from(["a", "b", "c", "long" * 30]), min_size=1, max_size=3).map("/".join)
HARMLESS = st.builds(
    lambda name, kind, content, mode, mtime: member(
        name, kind, content=content, target="a/b", mode=mode | 0o700, mtime=mtime
    ),
    NAMES,
    st.sampled_from(["file", "file", "folder", "link"]),
    st.binary(max_size=2000),
    st.integers(0, 0o777),
    st.integers(0, 2**31),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(HARMLESS, max_size=6))
def test_what_is_accepted_is_unpacked_as_tar_does(members):
    with fresh_place() as place, tempfile.TemporaryDirectory() as folder:
        try:
            place.accepts(tar_of(*members))
        except InvalidArchive:
            return
        subprocess.run(["tar", "-C", folder, "-p", "-xf", place.tar], check=True, capture_output=True)
        ours, theirs = tree_of(place.into), tree_of(Path(folder))
        assert without_folder_times(ours) == without_folder_times(theirs)


def without_folder_times(tree):
    """A folder has the time of its own member here; `tar` loses it where more came into the folder later."""
    return {name: what[:2] if what[0] == stat.S_IFDIR else what for name, what in tree.items()}


def test_a_cancel_in_the_middle_leaves_nothing(place):
    place.tar.write_bytes(tar_of(*[member(f"d/{n}") for n in range(100)]))
    seen = []

    def cancelled():
        seen.append(len(list(place.into.rglob("*"))))
        return seen[-1] > 50

    with pytest.raises(Stopped):
        unpack(place.tar, place.into, cancelled=cancelled)
    assert seen[-1] > 50
    assert list(place.into.iterdir()) == []


def test_a_disk_that_takes_no_more_is_told_and_leaves_nothing(place):
    place.tar.write_bytes(tar_of(member("a"), member("d/big", content=bytes(300_000))))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SourceFailed, match="File too large"):
            unpack(place.tar, place.into)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(place.into.iterdir()) == []


def test_no_descriptor_stays_open(place):
    good = tar_of(member("a/b/c"), member("l", "link", target="a"), member("hard", "hard", target="a/b/c"))
    bad = tar_of(member("a/b/c"), member("/absolute"))
    place.refuses(bad)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        place.refuses(bad)
    place.accepts(good)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
