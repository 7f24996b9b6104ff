"""An image's file system in a folder: whole, and never outside of it, whatever the image holds."""

from __future__ import annotations

import io
import os
import stat
import tarfile

import pytest

from api.client.errors import ClientError
from api.client.unpack import unpack


def member(name, kind=tarfile.REGTYPE, *, target="", data=b"", mode=0o644, mtime=1_700_000_000):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode, info.mtime = kind, target, len(data), mode, mtime
    return info, data


def packed(*members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def unpacked(folder, *members, piece=1000):
    """Unpack a tar that comes in such pieces; the warnings."""
    data = packed(*members)
    warnings = []
    unpack((data[start : start + piece] for start in range(0, len(data), piece)), str(folder), warnings.append)
    return warnings


@pytest.mark.parametrize("piece", [1, 511, 10_000_000])
def test_files_folders_and_links_arrive_as_they_are(tmp_path, piece):
    data = os.urandom(3000)
    members = (
        member("bin/", tarfile.DIRTYPE, mode=0o755),
        member("bin/tool", data=data, mode=0o755),
        member("bin/hard", tarfile.LNKTYPE, target="bin/tool"),
        member("bin/sh", tarfile.SYMTYPE, target="/bin/tool"),
        member("./no/parents/é", data=b"x"),
    )
    assert unpacked(tmp_path / "out", *members, piece=piece) == []
    out = tmp_path / "out"
    assert (out / "bin" / "tool").read_bytes() == data
    assert (out / "bin" / "tool").stat().st_mode & 0o777 == 0o755
    assert (out / "bin" / "tool").stat().st_mtime == 1_700_000_000
    assert (out / "bin" / "hard").samefile(out / "bin" / "tool")
    assert os.readlink(out / "bin" / "sh") == "/bin/tool"  # noqa: PTH115 - a Path would tidy it
    assert (out / "no" / "parents" / "é").read_bytes() == b"x"


def test_set_uid_bits_stay_behind_and_devices_and_pipes_with_a_warning(tmp_path):
    devices = [member(kind.decode(), kind) for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)]
    warnings = unpacked(tmp_path, member("su", mode=0o6755), *devices)
    assert [path.name for path in tmp_path.iterdir()] == ["su"]
    assert not (tmp_path / "su").stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    assert len(warnings) == 3


def test_a_folder_that_may_not_be_written_to_is_filled_all_the_same(tmp_path):
    unpacked(tmp_path, member("ro", tarfile.DIRTYPE, mode=0o555), member("ro/f", data=b"x"))
    assert (tmp_path / "ro").stat().st_mode & 0o777 == 0o555
    assert (tmp_path / "ro" / "f").read_bytes() == b"x"


@pytest.mark.parametrize(
    "members",
    [
        [member("../evil", data=b"evil")],
        [member("/evil", data=b"evil")],
        [member("a/../../evil", data=b"evil")],
        [member("link", tarfile.SYMTYPE, target=".."), member("link/evil", data=b"evil")],
        [member("link", tarfile.SYMTYPE, target="/"), member("link/tmp", tarfile.DIRTYPE, mode=0)],
        [member("a", tarfile.SYMTYPE, target="."), member("a/b", tarfile.SYMTYPE, target=".."), member("a/b/evil")],
        [member("hard", tarfile.LNKTYPE, target="../precious")],
        [member("hard", tarfile.LNKTYPE, target="/etc/passwd")],
        [member("l", tarfile.SYMTYPE, target=".."), member("hard", tarfile.LNKTYPE, target="l/precious")],
        [member("there/evil", data=b"evil")],
        [member("d", tarfile.DIRTYPE), member("d", tarfile.SYMTYPE, target="..")],
        [member("f", mtime=2**70)],
        [member("n\0ul", data=b"x"), member("f", tarfile.LNKTYPE, target="none")],
    ],
)
def test_nothing_is_written_outside_of_the_folder(tmp_path, members):
    out = tmp_path / "out"
    out.mkdir()
    (out / "there").symlink_to(tmp_path)
    (tmp_path / "precious").write_text("precious")
    mode = tmp_path.stat().st_mode
    with pytest.raises(ClientError):
        unpacked(out, *members)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "precious"}
    assert tmp_path.stat().st_mode == mode
    assert (tmp_path / "precious").stat().st_nlink == 1


def test_what_is_there_is_replaced_and_a_link_is_not_followed(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "folder").mkdir()
    (out / "f").symlink_to(tmp_path / "precious")
    (out / "d").symlink_to(tmp_path / "folder")
    (out / "old").write_text("old")
    unpacked(out, member("f", data=b"new"), member("d", tarfile.DIRTYPE), member("d/x"), member("old", data=b"new"))
    assert (tmp_path / "precious").read_text() == "precious"
    assert list((tmp_path / "folder").iterdir()) == []
    assert (out / "f").read_bytes() == (out / "old").read_bytes() == b"new"
    assert (out / "d" / "x").is_file()


def test_a_link_may_lead_anywhere_for_nothing_goes_through_it(tmp_path):
    unpacked(tmp_path, member("passwd", tarfile.SYMTYPE, target="../../../etc/passwd"), member("passwd", data=b"mine"))
    assert (tmp_path / "passwd").read_bytes() == b"mine"
    assert not (tmp_path / "passwd").is_symlink()


@pytest.mark.parametrize("data", [b"no tar at all" * 100, packed(member("f", data=b"x" * 5000))[:2000]])
def test_a_tar_that_is_none_or_is_cut_off_is_told(tmp_path, data):
    with pytest.raises(ClientError, match="is no tar"):
        unpack(iter([data]), str(tmp_path), print)
