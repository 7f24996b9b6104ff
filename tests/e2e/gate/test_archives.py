"""Images saved and loaded: what archives say of names and layers is not believed."""

import gzip
import hashlib
import io
import json
import lzma
import subprocess
import tarfile
import zlib

import pytest

from tests.agent.test_tar import sparse_tar
from tests.e2e.gate_process import POLICY, cli
from tests.e2e.harness import BUSYBOX, image_ids

pytestmark = pytest.mark.engine


def test_what_was_saved_is_loaded_by_another_build_and_by_an_engine(gate, gate_of):
    cli(gate, "run", "--name", "made", BUSYBOX, "sh", "-c", "echo mine >/file")
    cli(gate, "commit", "made", "mine:1")
    cli(gate, "tag", "mine:1", "registry.example/team/mine:2")
    cli(gate, "save", "-o", gate.files / "two.tar", "mine:1", BUSYBOX, "registry.example/team/mine:2")
    with tarfile.open(gate.files / "two.tar") as tar:
        assert b"sibling.local" not in b"".join(
            tar.extractfile(each).read() for each in tar if each.name.endswith(".json")
        )
        told = {tuple(each["RepoTags"]) for each in json.load(tar.extractfile("manifest.json"))}
    assert told == {("mine:1", "registry.example/team/mine:2"), (BUSYBOX,)}
    other = gate_of("t-load").start()
    loaded = cli(other, "load", "-i", gate.files / "two.tar").stdout.decode()
    assert sorted(loaded.split()[2::3]) == sorted(["mine:1", "registry.example/team/mine:2", BUSYBOX])
    assert cli(other, "run", "--rm", "registry.example/team/mine:2", "cat", "/file").stdout == b"mine\n"
    assert not gate.engine.images.list("registry.example/team/mine")
    for packer in (["gzip"], ["xz", "-1"]):
        packed = subprocess.run([*packer, "-c", gate.files / "two.tar"], capture_output=True, check=True).stdout
        assert b"Loaded image: mine:1" in cli(other, "load", stdin=packed).stdout
    ids = cli(gate, "images", "-q", "--no-trunc", "mine").stdout.decode().split()
    saved = cli(gate, "save", ids[0]).stdout
    assert b"Loaded image ID" in cli(other, "load", stdin=saved).stdout
    cli(gate, "rm", "made")


def archive(manifest, *members):
    """A tar with that manifest, and members (name, content) or ready TarInfos."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for each in (*members, ("manifest.json", json.dumps(manifest).encode())):
            if isinstance(each, tarfile.TarInfo):
                tar.addfile(each)
                continue
            member = tarfile.TarInfo(each[0])
            member.size = len(each[1])
            tar.addfile(member, io.BytesIO(each[1]))
    return out.getvalue()


LAYER = archive({})
CONFIG = json.dumps(
    {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(LAYER).hexdigest()}"]},
    }
).encode()
WHOLE = {"Config": "c.json", "RepoTags": ["own:1"], "Layers": ["l.tar"]}


def load(gate, data):
    return gate.ask("POST", "/images/load?quiet=1", data, {"Content-Type": "application/x-tar"})


def test_a_loaded_archive_moves_no_shared_name(gate):
    shared = gate.engine.images.get(BUSYBOX).id
    data = archive([{**WHOLE, "RepoTags": [BUSYBOX, "own:1"]}], ("c.json", CONFIG), ("l.tar", LAYER))
    assert load(gate, data)[0] == 200
    assert gate.engine.images.get(BUSYBOX).id == shared
    assert gate.client.images.get(BUSYBOX).id == gate.client.images.get("own:1").id != shared
    repositories = json.dumps({"sibling-test/busybox": {"1": "x"}}).encode()
    assert load(gate, archive([WHOLE], ("c.json", CONFIG), ("l.tar", LAYER), ("repositories", repositories)))[0] == 200
    assert gate.engine.images.get(BUSYBOX).id == shared
    cli(gate, "rmi", BUSYBOX)


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def device(name):
    member = tarfile.TarInfo(name)
    member.type = tarfile.CHRTYPE
    return member


@pytest.mark.parametrize(
    ("manifest", "members"),
    [
        ([], []),
        ({}, []),
        ([WHOLE], []),
        ([{**WHOLE, "Config": "/etc/passwd"}], [("l.tar", LAYER)]),
        ([{**WHOLE, "Layers": ["../../l.tar"]}], [("c.json", CONFIG), ("l.tar", LAYER)]),
        ([{**WHOLE, "Layers": [7]}], [("c.json", CONFIG)]),
        ([{**WHOLE, "Layers": 7}], [("c.json", CONFIG)]),
        ([{**WHOLE, "Config": None}], []),
        ([7], []),
        ([{**WHOLE, "RepoTags": ["sibling.local/x:1"]}], [("c.json", CONFIG), ("l.tar", LAYER)]),
        ([{**WHOLE, "RepoTags": ["0123456789ab"]}], [("c.json", CONFIG), ("l.tar", LAYER)]),
        ([{**WHOLE, "RepoTags": ["../x"]}], [("c.json", CONFIG), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", CONFIG), link("l.tar", "/etc/passwd")]),
        ([WHOLE], [("c.json", CONFIG), link("l.tar", "l.tar")]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", LAYER), device("d")]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", LAYER), ("./l.tar", LAYER)]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", b"\x28\xb5\x2f\xfd" + LAYER)]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", b"\x5a\x2a\x4d\x18" + LAYER)]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", gzip.compress(LAYER) + b"more")]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", archive({}, ("x", b"other")))]),
        ([{**WHOLE, "Layers": []}], [("c.json", CONFIG)]),
        ([{**WHOLE, "Layers": ["l.tar"] * 2}], [("c.json", CONFIG), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", CONFIG.replace(b"{", b'{"RootFS": {}, ', 1)), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", CONFIG + b"{}"), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", b"[]"), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", b'{"rootfs": 1}'), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", b"{}"), ("l.tar", LAYER)]),
        ([WHOLE], [("manifest.json", b"[]"), ("c.json", CONFIG), ("l.tar", LAYER)]),
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(gate, manifest, members):
    contents = [each[1] for each in members if isinstance(each, tuple)]
    hostile = {f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents}

    def there():
        return gate.left(), hostile & image_ids(gate.engine)

    before = there()
    status, answer = load(gate, archive(manifest, *members))
    assert status in (400, 403), answer
    assert there() == before


def test_layers_of_others_are_not_had_by_naming_their_digests(gate, gate_of):
    """The engine does not look at a layer that it has already, and takes the digest for it."""
    other = gate_of("t-victim").start()
    cli(other, "run", "--name", "made", BUSYBOX, "sh", "-c", "echo secret >/file")
    cli(other, "commit", "made", "secret:1")
    digests = other.client.images.get("secret:1").attrs["RootFS"]["Layers"]
    claimed = json.dumps({**json.loads(CONFIG), "rootfs": {"type": "layers", "diff_ids": digests}}).encode()
    whole = {**WHOLE, "RepoTags": ["stolen:1"], "Layers": ["l.tar"] * len(digests)}
    status, answer = load(gate, archive([whole], ("c.json", claimed), ("l.tar", LAYER)))
    assert (status, "digest" in answer["message"]) == (400, True), answer
    spelled = claimed.replace(b"diff_ids", b"Diff_IDs").replace(b"rootfs", b"RootF\xc5\xbf")
    assert load(gate, archive([whole], ("c.json", spelled), ("l.tar", LAYER)))[0] == 400
    assert gate.ask("GET", "/images/stolen:1/json")[0] == 404


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 5000, gzip.compress(b"x")[:-3], LAYER[:100], gzip.compress(LAYER)[:-9]],
    ids=["nothing", "text", "no gzip", "no tar", "no whole gzip"],  # what gzip makes has the time in it
)
def test_what_is_no_archive_is_told_so(gate, data):
    assert load(gate, data)[0] == 400


def test_a_bomb_is_not_unpacked(gate_of):
    gate = gate_of("t-bomb", POLICY + 'image_bytes = "8m"\n').start()
    bomb = gzip.compress(bytes(64 * 1024**2))
    for data in (gzip.compress(bytes(32 * 1024**2)), archive([WHOLE], ("c.json", CONFIG), ("l.tar", bomb))):
        status, answer = load(gate, data)
        assert (status, "8388608 bytes" in answer["message"]) == (400, True), answer


@pytest.mark.parametrize("packer", [bytes, gzip.compress])
def test_no_layer_is_larger_than_what_is_counted(gate, packer):
    layer = sparse_tar("f", 10**9)
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = json.dumps({**json.loads(CONFIG), "rootfs": {"type": "layers", "diff_ids": [digest]}}).encode()
    status, answer = load(gate, archive([WHOLE], ("c.json", config), ("l.tar", packer(layer))))
    assert (status, "has a sparse file" in answer["message"]) == (400, True)


def test_only_what_a_build_may_use_is_saved(gate, foreign):
    engine = gate.engine
    engine.api.import_image_from_data(LAYER, repository="gate-secret", tag="1")
    try:
        for path in ("/images/gate-secret:1/get", f"/images/get?names={BUSYBOX}&names=gate-secret:1", "/images/get"):
            assert gate.ask("GET", path)[0] in (400, 404)
    finally:
        engine.images.remove("gate-secret:1")


def greedy(data):
    """Packed by xz, and said to need 4 GiB of memory (The .xz File Format, 3.1 and 5.3.1)."""
    packed = bytearray(lzma.compress(data))
    size = (packed[12] + 1) * 4
    packed[16] = 40
    packed[12 + size - 4 : 12 + size] = zlib.crc32(packed[12 : 12 + size - 4]).to_bytes(4, "little")
    return bytes(packed)


def test_an_archive_does_not_say_how_much_memory_it_takes(gate):
    whole = archive([WHOLE], ("c.json", CONFIG), ("l.tar", LAYER))
    assert load(gate, lzma.compress(whole) + lzma.compress(b""))[0] == 200
    assert load(gate, lzma.compress(whole) + lzma.compress(b"") * 100)[0] == 400, "each is looked at anew"
    status, answer = load(gate, greedy(whole))
    assert (status, "limit" in answer["message"]) == (400, True)
