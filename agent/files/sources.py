"""The store of uploaded source trees: one file for each content, kept until nobody has used it for a while."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import NotFound, TooLarge, Unavailable
from agent.files import archive, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from agent.settings import SourceSettings

_PREFIX = "src-"
_PARTIAL = "upload-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An uploaded tree: bytes as sent, how many files, folders and links it has, and the bytes of its files."""

    id: str
    size: int
    files: int
    unpacked_size: int


class Sources:
    """The uploads of one service. May be called from any thread; a file's mtime is when it was last used."""

    def __init__(self, folder: Path, settings: SourceSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._lock = threading.Lock()  # so that what is being used is never removed at that moment
        folder.mkdir(mode=0o700, exist_ok=True)
        for partial in folder.glob(f"{_PARTIAL}*"):
            partial.unlink()

    def begin(self) -> Upload:
        """A new upload; to be ended by `commit` or `abort`."""
        return Upload(self._folder, self._settings, self._keep)

    def path(self, source_id: str) -> Path:
        """The tar of a source. Raises NotFound."""
        path = tree.child(self._folder, source_id)
        if not source_id.startswith(_PREFIX) or not path.exists():
            raise _missing(source_id)
        return path

    def touch(self, source_id: str) -> None:
        """Say that it is used now, so that it is kept from now on. Raises NotFound."""
        with self._lock:
            try:
                os.utime(self.path(source_id))
            except FileNotFoundError as error:
                raise _missing(source_id) from error

    def remove_unused(self, in_use: Collection[str], now: float) -> None:
        """Remove what was not used for `sources.keep` before `now`, in seconds since the epoch, and is not `in_use`."""
        for path in self._folder.glob(f"{_PREFIX}*"):
            with self._lock, suppress(FileNotFoundError):
                if path.stat().st_mtime < now - self._settings.keep and path.name not in in_use:
                    path.unlink()

    def _keep(self, partial: Path, source_id: str) -> None:
        with self._lock:
            partial.replace(self._folder / source_id)
        with tree.opened(self._folder) as folder:
            os.fsync(folder)


class Upload:
    """One upload, written as it comes. Its id is made of its content: the same tree sent twice is one file."""

    def __init__(self, folder: Path, settings: SourceSettings, keep: Callable[[Path, str], None]) -> None:
        self._settings = settings
        self._keep = keep
        self._hash = hashlib.sha256()
        self._size = 0
        descriptor, name = tempfile.mkstemp(prefix=_PARTIAL, dir=folder)
        self._file = os.fdopen(descriptor, "wb")
        self._path = Path(name)

    def write(self, data: bytes) -> None:
        """Add bytes. Raises TooLarge, and Unavailable if the disk takes no more."""
        self._size += len(data)
        if self._size > self._settings.max_upload:
            raise TooLarge(f"the source is over {self._settings.max_upload} bytes, which is sources.max_upload")
        try:
            self._file.write(data)
        except OSError as error:
            raise _full(error) from error
        self._hash.update(data)

    def commit(self) -> Source:
        """Check the archive and keep it; it is durable when this returns. Raises InvalidArchive, Unavailable."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _full(error) from error
        self._file.close()
        summary = archive.check(self._path, self._settings)
        source_id = _PREFIX + self._hash.hexdigest()[:32]
        self._keep(self._path, source_id)
        return Source(id=source_id, size=self._size, files=summary.files, unpacked_size=summary.unpacked_size)

    def abort(self) -> None:
        """Leave nothing of it. Does nothing after `commit` or another `abort`."""
        with suppress(OSError):
            # What could not be written is to be forgotten now.
            self._file.close()
        self._path.unlink(missing_ok=True)


def _missing(source_id: str) -> NotFound:
    return NotFound(f"there is no source {source_id}; it was never uploaded, or not used for too long: upload it again")


def _full(error: OSError) -> Unavailable:
    return Unavailable(f"the upload cannot be stored now: {error.strerror}")
