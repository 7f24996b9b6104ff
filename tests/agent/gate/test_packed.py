"""What the engine is sent as a tar does not begin as what is packed does."""

import asyncio
import bz2
import gzip
import io
import lzma
import tarfile

import pytest

from agent.errors import InvalidRequest
from agent.gate.packed import NOT_GZIP, plain, unmistaken


def through(way, data, size):
    """What comes out, of pieces of that size."""

    async def pieces():
        for at in range(0, len(data), size):
            yield data[at : at + size]

    async def whole():
        return b"".join([piece async for piece in way(pieces())])

    return asyncio.run(whole())


def tar_with(name):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return out.getvalue()


@pytest.mark.parametrize("size", [1, 3, 100_000])
def test_it_is_unpacked_out_of_gzip_once(size):
    data = tar_with("x")
    assert through(plain, data, size) == through(plain, gzip.compress(data), size) == data
    for packer in (gzip.compress, bz2.compress, lzma.compress):
        with pytest.raises(InvalidRequest, match="or twice"):
            through(plain, gzip.compress(packer(data)), size)


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("mark", [b"\x1f\x8b\x08", *NOT_GZIP], ids=repr)
def test_a_first_name_that_is_a_packers_mark_comes_second(mark, size):
    given = tar_with(mark.decode("latin-1"))
    sent = through(unmistaken, given, size)
    assert sent.endswith(given)
    with tarfile.open(fileobj=io.BytesIO(sent), mode="r:", encoding="latin-1") as tar:
        assert [each.name for each in tar] == [".", mark.decode("latin-1")]


def test_any_other_first_name_is_left_as_it_is():
    assert through(unmistaken, tar_with("etc"), 100) == tar_with("etc")
