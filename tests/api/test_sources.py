"""Uploads over HTTP."""

import asyncio
import gzip
import hashlib
import io
import tarfile

import pytest
import zstandard

from tests.api.harness import Api, until

pytestmark = pytest.mark.anyio


def tar(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


TREE = {"Makefile": b"all:\n", "src/main.c": b"int main;\n"}


def left_over(api):
    return [path for path in (api.data / "sources").rglob("*") if path.is_file()]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
async def test_a_tree_gets_an_id_that_builds_can_name(held, pack):
    sent = pack(tar(TREE))
    answer = await held.client.put("/v1/sources", content=sent)
    source = answer.json()
    assert answer.status_code == 201
    assert source["id"] == "src-" + hashlib.sha256(sent).hexdigest()[:32]
    assert (source["size"], source["unpacked_size"]) == (len(sent), 15)
    assert source["files"] >= 2
    build = await held.submit(source={"type": "uploaded", "id": source["id"]})
    assert build["request"]["source"] == {"type": "uploaded", "id": source["id"]}


async def test_an_upload_may_be_larger_than_any_other_body(held):
    big = tar({"big": bytes(3 * 1024**2)})

    async def pieces():
        for start in range(0, len(big), 70_000):
            yield big[start : start + 70_000]

    assert (await held.client.put("/v1/sources", content=pieces())).json()["size"] == len(big)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no tar at all",
        gzip.compress(b"no tar"),
        gzip.compress(tar(TREE))[:-20],
        tar({"../out": b"x"}),
        tar({"/out": b"x"}),
    ],
    ids=["empty", "text", "gzip of text", "cut", "slip", "absolute"],
)
async def test_what_is_no_good_archive_is_refused_and_nothing_stays(held, content):
    answer = await held.client.put("/v1/sources", content=content)
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:sibling:problem:invalid-archive"
    assert left_over(held) == []


@pytest.mark.parametrize("told", [True, False], ids=["with a length", "chunked"])
async def test_an_upload_over_the_cap_is_refused_and_nothing_stays(tmp_path, told):
    async def pieces():
        for _ in range(300):
            yield bytes(1000)

    async with Api(tmp_path, sources={"max_upload": 100_000}).running() as api:
        answer = await api.client.put("/v1/sources", content=bytes(300_000) if told else pieces())
        assert answer.status_code == 413
        assert "sources.max_upload" in answer.json()["detail"]
        assert left_over(api) == []


async def test_an_upload_that_is_told_to_be_too_long_is_not_read(tmp_path):
    async def never():
        raise AssertionError("it was read")
        yield b""

    async with Api(tmp_path, sources={"max_upload": 1000}).running() as api:
        answer = await api.client.put("/v1/sources", content=never(), headers={"Content-Length": "1001"})
        assert answer.status_code == 413


async def test_an_upload_that_is_cut_leaves_nothing(tmp_path):
    api = Api(tmp_path)
    async with api.listening() as address:
        port = int(address.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        token = api.headers("writer")["Authorization"]
        head = f"PUT /v1/sources HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: 1000000\r\n\r\n"
        writer.write(head.encode() + bytes(1000))
        await until(lambda: left_over(api))
        writer.close()
        await until(lambda: not left_over(api))
        assert (await api.client.put("/v1/sources", content=tar(TREE))).status_code == 201
