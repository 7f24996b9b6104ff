"""Where members begin is found as Go's archive/tar finds it, so that no sparse file is missed."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidArchive
from agent.files import tar
from agent.files.tar_headers import Headers
from tests.agent.test_tar import END, header, pax, with_checksum

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)
SPARSE = pax(b"22 GNU.sparse.major=1\n") + header("sparse")
SIZE = pax(b"12 size=512\n")


def names(data, *cuts):
    """Of the members, once they came in pieces that end there."""
    headers, ends = Headers(), [*sorted(cuts), len(data)]
    pieces = [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    return [tar.member(*each, bytes).name for piece in pieces for each in headers.of(piece)]


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@given(
    files=st.lists(
        st.tuples(NAMES, st.sampled_from([tarfile.REGTYPE, tarfile.LNKTYPE]), st.binary(max_size=1500), NAMES),
        max_size=5,
    ),
    data=st.data(),
)
def test_those_of_what_tarfile_writes_are_found_wherever_it_is_cut(tar_format, files, data):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as archive:
        for name, kind, content, target in files:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(content))
    written = out.getvalue()
    cuts = data.draw(st.lists(st.integers(0, len(written)), max_size=6))
    assert names(written, *cuts) == [name for name, *_ in files]


@pytest.mark.parametrize(
    "before",
    [
        b"",
        header(size=5) + bytes(512),
        header(kind=b"1", size=512),
        header(kind=b"5", size=512),
        header(kind=b"K", size=700) + bytes(1024),
        header(kind=b"M", size=512) + bytes(512),
        header(kind=b"X", size=512) + bytes(512),
        SIZE + header() + bytes(512),
        SIZE + pax(b"6 x=y\n") + header(),  # the last one alone is for the member
        SIZE + pax(b"6 x=y\n", b"g") + header(),  # it is a member of its own
        pax(b"12 size=512\n", b"g") + header(),
        SIZE + header(kind=b"L", size=5) + b"long".ljust(512, b"\0") + header() + bytes(512),
        with_checksum(header()[:124] + b"\0 0001000\0 " + b" " + header()[136:]) + bytes(512),  # leading nulls
        with_checksum(header()[:124] + b"\x80".ljust(10, b"\0") + b"\2\0" + header()[136:]) + bytes(512),
    ],
)
def test_a_sparse_file_is_refused_whatever_comes_before_it(before):
    for last in (SPARSE, header("sparse", kind=b"S"), pax(b"22 GNU.sparse.major=1\n", b"g")):
        with pytest.raises(InvalidArchive, match="sparse"):
            names(before + last)


@pytest.mark.parametrize(
    "before", [header("data", size=len(SPARSE)), header("data") + END, header("data") + bytes(512)]
)
def test_what_is_data_or_after_the_end_is_no_header(before):
    assert names(before + SPARSE) == names(before + SPARSE, 700, 1100, 1500) == ["data"]


def test_data_passes_without_a_look_at_it():
    headers = Headers()
    assert not headers.passes(1)
    assert headers.of(header(size=5000)) != []
    assert headers.passes(5000)
    assert headers.passes(120)
    assert not headers.passes(1)


@pytest.mark.parametrize(
    "damaged",
    [
        header("old/", kind=b"\0", size=512),
        header("new", kind=b"x", size=2 * 1024**2),
        pax(b"8 size=x\n") + header(),
        pax(b"9 size=-1\n") + header(),
        pax(b"no records"),
    ],
)
def test_what_can_be_read_in_two_ways_or_takes_much_memory_is_refused(damaged):
    with pytest.raises(InvalidArchive):
        names(damaged)


def test_a_tar_that_breaks_off_has_not_ended():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    for size, ended in ((tarfile.BLOCKSIZE, False), (len(data.getvalue()), True)):
        headers = Headers()
        assert len(headers.of(data.getvalue()[:size])) == 1
        assert headers.ended is ended
