"""Archives of images, as `docker save` writes and `docker load` reads them (Docker image specification v1.2).

What names images have in them is the gate's: the build's own in what it is given, private ones in what the engine is
given. Blocks, on files that are given.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import posixpath
import tarfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from agent.errors import InvalidRequest, TooLarge
from agent.files import tar, tar_headers
from agent.gate import strict_json
from agent.gate.packed import BZIP2, GZIP, NOT_GZIP, XZ

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_MANIFEST = "manifest.json"
_ELSEWHERE = "repositories"  # where names are as well, for Docker before 1.10
_MOST_MEMBERS, _MOST_IMAGES, _MOST_TEXTS, _MOST_LINKS = 20_000, 100, 500, 10
_MOST_CONFIG = 128 * 1024  # bytes: the engine tells it in every list of images, to all
_CHUNK = 1024 * 1024
_XZ_MEMORY = 128 * 1024**2  # bytes; with `xz -9` it takes 65 MiB
_MOST_STREAMS = 100  # of xz, in one archive


def _with(opener: Callable[..., Any]) -> Callable[[IO[bytes]], Iterator[bytes]]:
    def pieces(file: IO[bytes]) -> Iterator[bytes]:
        with opener(file) as stream:
            while piece := stream.read(_CHUNK):
                yield piece

    return pieces


def _xz(file: IO[bytes]) -> Iterator[bytes]:
    """As `lzma.open`, with a limit to the memory that what is packed can ask for."""
    streams = 0
    while data := file.read(_CHUNK):
        streams += 1
        if streams > _MOST_STREAMS:
            raise lzma.LZMAError(f"it has more than {_MOST_STREAMS} streams")
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        while not stream.eof:
            if stream.needs_input and not (data := data or file.read(_CHUNK)):
                raise EOFError("it ends in the middle")
            yield stream.decompress(data, _CHUNK)
            data = b""
        file.seek(-len(stream.unused_data), os.SEEK_CUR)  # of another one after it


_UNPACKERS: tuple[tuple[bytes, Callable[[IO[bytes]], Iterator[bytes]]], ...] = (
    (GZIP, _with(gzip.open)),
    (BZIP2, _with(bz2.open)),
    (XZ, _xz),
)


class Renamed:
    """An archive of the engine's in pieces -> the same, in which images have the names that the build gives them."""

    def __init__(self, tags: Mapping[str, Sequence[str]]) -> None:
        """`tags` by image id."""
        self._tags = tags
        self._waiting = b""
        self._passing = 0  # bytes of a member that go on as they are

    def piece(self, data: bytes) -> bytes:
        """What goes on, once this piece has come."""
        self._waiting += data
        out = bytearray()
        while self._waiting and (self._passing or self._next(out)):
            passed = self._waiting[: self._passing]
            out += passed
            self._waiting, self._passing = self._waiting[len(passed) :], self._passing - len(passed)
        return bytes(out)

    def _next(self, out: bytearray) -> bool:
        """Begin with the next member; False if not enough of it is there."""
        head = self._waiting[: tar.BLOCK]
        if len(head) < tar.BLOCK:
            return False
        if not any(head):  # the end
            self._passing = tar.BLOCK
            return True
        member = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        whole = tar.BLOCK + member.size + -member.size % tar.BLOCK
        if not (member.isreg() and member.name in {_MANIFEST, _ELSEWHERE}):
            self._passing = whole
            return True
        if len(self._waiting) < whole:
            return False
        if member.name == _MANIFEST:
            out += _file(_MANIFEST, self._named(self._waiting[tar.BLOCK : tar.BLOCK + member.size]))
        self._waiting = self._waiting[whole:]
        return True

    def _named(self, content: bytes) -> bytes:
        entries = json.loads(content)
        for entry in entries:
            image = posixpath.basename(entry["Config"]).removesuffix(".json")
            entry["RepoTags"] = list(self._tags.get(f"sha256:{image}", ())) or None
        return json.dumps(entries).encode()


@dataclass(frozen=True, slots=True)
class _Part:
    """A file of an archive."""

    at: int
    size: int


@dataclass(frozen=True, slots=True)
class _Written:
    """The same in what the engine is given; the digest is of what is in it, unpacked."""

    name: str
    digest: str


class Archive:
    """One that somebody sent. Raises InvalidRequest for what is none, TooLarge for over `most` bytes unpacked."""

    def __init__(self, file: IO[bytes], unpacked: IO[bytes], most: int) -> None:
        """`unpacked` takes what is in the file, if that is packed as a whole."""
        self._left = self._most = most
        with _readable():
            self._file = self._unpack(file, unpacked)
            self._parts, self._links = self._index()
        self._images = [_image(each) for each in self._manifest()]

    @property
    def tags(self) -> list[list[str]]:
        """The names of each image in it."""
        return [each["RepoTags"] for each in self._images]

    def write(self, anchors: Sequence[str], out: IO[bytes]) -> None:
        """Write one of the same images with nothing but what they are made of, each with one name.

        Layers are those that the config names: the engine looks at none that it has already, so that a digest alone
        would be enough to get at what is in another's.
        """
        written: dict[tuple[_Part, bool], _Written] = {}  # by whether it is a layer; a file may be there as both
        manifest = []
        for image, anchor in zip(self._images, anchors, strict=True):
            told = self._part(image["Config"])
            parts = [(told, False), *((self._part(each), True) for each in image["Layers"])]
            for part, is_layer in parts:
                if (part, is_layer) not in written:
                    with _readable():
                        written[part, is_layer] = self._copy(part, f"{len(written)}", out, is_layer=is_layer)
            config, *layers = (written[each] for each in parts)
            facts = self._json(told, image["Config"], _MOST_CONFIG)
            if strict_json.told(facts) > _MOST_CONFIG:
                raise TooLarge(f"{image['Config']!r} in the archive is over {_MOST_CONFIG} bytes, as it would be told")
            if [each.digest for each in layers] != _diff_ids(facts):
                raise InvalidRequest("the layers of an image are not those whose digests its config has")
            manifest.append({"Config": config.name, "RepoTags": [anchor], "Layers": [each.name for each in layers]})
        out.write(_file(_MANIFEST, json.dumps(manifest).encode()) + bytes(2 * tar.BLOCK))

    def _unpack(self, file: IO[bytes], unpacked: IO[bytes]) -> IO[bytes]:
        unpacker = next((each for magic, each in _UNPACKERS if _begins(file, 0, magic)), None)
        if unpacker is None:
            return file
        file.seek(0)
        for piece in unpacker(file):
            self._count(len(piece))
            unpacked.write(piece)
        self._left = self._most
        return unpacked

    def _index(self) -> tuple[dict[str, _Part], dict[str, str]]:
        parts: dict[str, _Part] = {}
        links: dict[str, str] = {}
        self._file.seek(0)
        for count, member in enumerate(tar.members(self._read)):
            if count == _MOST_MEMBERS:
                raise InvalidRequest(f"the archive has over {_MOST_MEMBERS} members")
            name = posixpath.normpath(member.name)
            if name in parts or name in links:
                raise InvalidRequest(f"the archive has {name!r} twice")
            if member.kind is tar.Kind.FILE:
                parts[name] = _Part(self._file.tell(), member.size)
            elif member.kind is tar.Kind.SYMLINK:  # from a layer that is there twice, before Docker 25
                links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.target))
            elif member.kind is not tar.Kind.FOLDER:
                raise InvalidRequest(f"the archive has a {member.kind}, {name!r}; docker save writes none")
        return parts, links

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise InvalidRequest("the archive ends in the middle")
        return data

    def _manifest(self) -> list[Any]:
        if _MANIFEST not in self._parts:
            raise InvalidRequest(f"the archive has no {_MANIFEST}: it is not one of docker save")
        entries = self._json(self._part(_MANIFEST), _MANIFEST)
        if not isinstance(entries, list) or not 0 < len(entries) <= _MOST_IMAGES:
            raise InvalidRequest(f"{_MANIFEST} is no list of up to {_MOST_IMAGES} images")
        return entries

    def _json(self, part: _Part, name: str, most: int = strict_json.MAX) -> Any:
        if part.size > most:
            raise TooLarge(f"{name!r} in the archive is over {most} bytes")
        self._file.seek(part.at)
        return strict_json.parse(self._read(part.size))

    def _part(self, name: str) -> _Part:
        plain = posixpath.normpath(name)
        for _ in range(_MOST_LINKS):
            if plain in self._parts:
                return self._parts[plain]
            if plain not in self._links:
                break
            plain = self._links[plain]
        raise InvalidRequest(f"the archive lacks {name!r}, which {_MANIFEST} names")

    def _copy(self, part: _Part, name: str, out: IO[bytes], *, is_layer: bool) -> _Written:
        if any(_begins(self._file, part.at, magic) for magic in NOT_GZIP):
            raise InvalidRequest("a layer is packed by other than gzip, and its size cannot be told")
        sizer = zlib.decompressobj(wbits=31) if _begins(self._file, part.at, GZIP) else None
        digest, headers = hashlib.sha256(), tar_headers.Headers()
        out.write(_head(name, part.size))
        self._file.seek(part.at)
        left = part.size
        while left:
            piece = self._read(min(left, _CHUNK))
            left -= len(piece)
            out.write(piece)
            for inside in [piece] if sizer is None else _unpacked(sizer, piece):
                self._count(len(inside))
                digest.update(inside)
                if is_layer:
                    headers.of(inside)  # raises for what has sparse files: their size is not what is counted
        if sizer is not None and not sizer.eof:
            raise InvalidRequest("a layer ends in the middle of its gzip stream")
        out.write(bytes(-part.size % tar.BLOCK))
        return _Written(name, f"sha256:{digest.hexdigest()}")

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLarge(f"the images are over {self._most} bytes, the most that a build's images may have")


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise InvalidRequest(f"the archive cannot be read: {error}") from error


def _begins(file: IO[bytes], at: int, magic: bytes) -> bool:
    file.seek(at)
    return file.read(len(magic)) == magic


def _unpacked(packed: Any, piece: bytes) -> Iterator[bytes]:
    while piece and not packed.eof:
        yield packed.decompress(piece, _CHUNK)
        piece = packed.unconsumed_tail
    if piece or packed.unused_data:
        raise InvalidRequest("a layer goes on after the end of its gzip stream")


def _diff_ids(config: object) -> object:
    """The digests of an image's layers, by its config."""
    return _value(_value(config, "rootfs"), "diff_ids") or []


def _value(of: object, name: str) -> object:
    """What an object has by a key of whatever case, as the engine reads it; None if it is no object."""
    members = of if isinstance(of, dict) else {}
    return next((value for key, value in members.items() if strict_json.fold(key) == name), None)


def _image(entry: object) -> dict[str, Any]:
    """Checked by its types. Raises InvalidRequest."""
    given = entry if isinstance(entry, dict) else {}
    layers, tags = given.get("Layers") or [], given.get("RepoTags") or []
    if isinstance(layers, list) and isinstance(tags, list):
        texts = [given.get("Config"), *layers, *tags]
        if all(isinstance(each, str) for each in texts) and len(texts) <= _MOST_TEXTS:
            return {"Config": given["Config"], "Layers": layers, "RepoTags": tags}
    raise InvalidRequest(f"{_MANIFEST} has an image without texts for Config, Layers and RepoTags, or too many of them")


def _head(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def _file(name: str, content: bytes) -> bytes:
    return _head(name, len(content)) + content + bytes(-len(content) % tar.BLOCK)
