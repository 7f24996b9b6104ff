import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidArchive
from agent.files import tar
from agent.files.tar import Kind

END = bytes(1024)
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


def reader(data):
    file = io.BytesIO(data)

    def read(size):
        piece = file.read(size)
        if len(piece) < size:
            raise InvalidArchive("cut off")
        return piece

    return read


def read_all(data):
    return [(member, b"".join(member.data)) for member in tar.members(reader(data))]


def header(name="x", *, kind=b"0", size=0, tar_format=tarfile.USTAR_FORMAT, **values):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for key, value in values.items():
        setattr(info, key, value)
    return info.tobuf(tar_format)


def with_checksum(block):
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    return block[:148] + b"%06o\0 " % total + block[156:]


def pax(body, kind=b"x"):
    return header(kind=kind, size=len(body)) + body + bytes(-len(body) % 512)


def sparse_tar(name, size):
    """A tar with a file of that size that is all hole, as `tar -S` makes it (GNU tar, Sparse Formats, PAX 1.0)."""
    told = {"major": 1, "minor": 0, "name": name, "realsize": size}
    records = (f" GNU.sparse.{key}={value}\n" for key, value in told.items())
    body = "".join(f"{len(each) + 2}{each}" for each in records).encode()
    return pax(body) + header(name, size=512) + f"1\n{size}\n0\n".encode().ljust(512, b"\0") + END


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@given(
    told=st.lists(
        st.tuples(
            NAMES,
            st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]),
            st.binary(max_size=1500),
            NAMES,
            st.integers(0, 0o7777),
            st.integers(0, 2**40),
        ),
        max_size=5,
    )
)
def test_it_reads_what_tarfile_writes(tar_format, told):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for name, kind, data, target, mode, mtime in told:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime, info.linkname = kind, mode, mtime, target
            info.size = len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(data))
    names = [name + "/" * (kind == tarfile.DIRTYPE and not name.endswith("/")) for name, kind, *_ in told]
    met = read_all(buffer.getvalue())
    assert [member.name for member, _ in met] == names
    assert [data for _, data in met] == [data if kind == tarfile.REGTYPE else b"" for _, kind, data, *_ in told]
    assert [(m.target, m.mode, m.mtime) for m, _ in met] == [
        (target, mode, mtime) for _, _, _, target, mode, mtime in told
    ]


def test_data_that_nobody_reads_is_skipped():
    data = header("a", size=700) + b"x" * 1024 + header("b", size=5) + b"hello".ljust(512, b"\0") + END
    members = tar.members(reader(data))
    next(members)
    assert b"".join(next(members).data) == b"hello"
    assert next(members, None) is None


def test_data_that_is_read_in_part_is_skipped_too():
    size = 600 * 1024
    data = header("a", size=size) + bytes(size) + header("b") + END
    members = tar.members(reader(data))
    assert len(next(next(members).data)) < size
    assert next(members).name == "b"


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        (b"3", Kind.CHARACTER_DEVICE),
        (b"4", Kind.BLOCK_DEVICE),
        (b"6", Kind.FIFO),
        (b"S", Kind.SPARSE),
        (b"V", Kind.OTHER),
        (b"7", Kind.FILE),
    ],
)
def test_kinds_are_told(kind, meant):
    assert read_all(header(kind=kind) + END)[0][0].kind is meant


def test_a_folder_as_it_was_written_before_posix():
    block = header("old/", kind=b"\0")
    assert read_all(with_checksum(block[:257] + bytes(255)) + END)[0][0].kind is Kind.FOLDER


def test_the_prefix_is_posix_only():
    long = "p" * 90 + "/" + "n" * 90
    assert read_all(header(long) + END)[0][0].name == long
    gnu = header("name", tar_format=tarfile.GNU_FORMAT)
    times = with_checksum(gnu[:345] + b"13371337133" + gnu[356:])  # where GNU keeps other times
    assert read_all(times + END)[0][0].name == "name"


def test_a_name_that_is_not_utf_8_comes_back_as_its_own_bytes():
    name = read_all(header("\udcff\udc80") + END)[0][0].name
    assert name.encode("utf-8", "surrogateescape") == b"\xff\x80"


@pytest.mark.parametrize("body", [
    b"GNU.sparse.map=0,1\n", b"GNU.sparse.major=1\n", b"GNU.sparse.size=10\n"
])  # fmt: skip
def test_pax_sparse_files_are_told(body):
    record = b"%d %s" % (len(body) + 3, body)
    assert read_all(pax(record) + header() + END)[0][0].kind is Kind.SPARSE


def test_own_headers_win_over_shared_ones_and_only_once():
    data = (
        pax(b"12 mtime=11\n", b"g")
        + pax(b"12 mtime=22\n")
        + header("a")
        + header("b")
        + pax(b"8 path=\n9 mtime=\n")
        + header("c")
    )
    assert [(m.name, m.mtime) for m, _ in read_all(data + END)] == [("a", 22), ("b", 11), ("c", 0)]


def test_a_size_in_a_pax_header_is_the_size():
    data = pax(b"10 size=3\n") + header("a", size=0) + b"abc".ljust(512, b"\0") + header("b") + END
    assert [content for _, content in read_all(data)] == [b"abc", b""]


@pytest.mark.parametrize("size", [8 * 1024**3, 2**60])
@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_sizes_beyond_eleven_octal_digits(tar_format, size):
    members = tar.members(reader(header("a", size=size, tar_format=tar_format)))
    assert next(members).size == size


def test_checksums_that_were_added_up_as_signed():
    block = header("\udcff\udcfe")
    rest = block[:148] + b" " * 8 + block[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in rest)
    assert len(read_all(block[:148] + b"%06o\0 " % signed + block[156:] + END)) == 1


@pytest.mark.parametrize(
    "broken",
    [
        pax(b"not a record"),
        pax(b"5 a=b\n"),
        pax(b"99 path=a\n"),
        pax(b"0 path=a\n"),
        pax(b"-1 path=a\n"),
        pax(b" path=a\n"),
        pax(b"9999999999999999999 path=a\n"),
        pax(b"13 size=abcd\n") + header(),
        pax(b"11 size=-1\n") + header(),
        pax(b"13 mtime=nan\n") + header(),
        pax(b"13 mtime=inf\n") + header(),
        with_checksum(header()[:124] + b"\xff" * 12 + header()[136:]),  # a negative size
        with_checksum(header()[:124] + b"00000000009\0" + header()[136:]),
        with_checksum(header()[:124] + b"+0000000001\0" + header()[136:]),
        header()[:148] + b"0000000\0" + header()[156:],
        b"\xff" * 512,
        header(kind=b"L", size=2**21),
        header(kind=b"x", size=2**60, tar_format=tarfile.GNU_FORMAT),
        header("no end mark"),
        b"short",
        b"",
    ],
)
def test_what_is_broken_is_refused(broken):
    with pytest.raises(InvalidArchive):
        read_all(broken + (END if len(broken) % 512 == 0 and broken and b"no end" not in broken else b""))


@given(st.binary(max_size=2000))
def test_noise_is_refused_and_nothing_else(noise):
    with pytest.raises(InvalidArchive):
        read_all(b"n" + noise)


@given(st.integers(0, 511), st.integers(0, 255))
def test_a_changed_byte_in_a_header_is_noticed(at, value):
    block = bytearray(header("name", kind=b"2", linkname="target", mtime=1234567890))
    if block[at] == value:
        return
    block[at] = value
    in_checksum = 148 <= at < 156
    try:
        read_all(bytes(block) + END)
    except InvalidArchive:
        return
    assert in_checksum, "only the sum's own field may be written in several ways"


@pytest.mark.timeout(20)
def test_a_pax_header_made_to_be_slow_is_not():
    digits = b"1" * (1024**2)
    for _ in range(5):
        with pytest.raises(InvalidArchive):
            read_all(pax(digits) + header() + END)


@pytest.mark.timeout(20)
def test_a_row_of_headers_and_records_is_short():
    assert len(read_all(pax(b"12 mtime=11\n" * 100) * 8 + header() + END)) == 1
    with pytest.raises(InvalidArchive, match="more than 8 extended headers"):
        read_all(pax(b"12 mtime=11\n") * 9 + header() + END)
    with pytest.raises(InvalidArchive, match="more than 100 records"):
        read_all(pax(b"4 =\n" * 101) + header() + END)
