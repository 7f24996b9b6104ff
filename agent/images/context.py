"""The files that a Dockerfile may use, in a folder of ours: nobody else can change it while BuildKit reads it.

A context from a build's own workspace is taken by hard links: no byte is copied, and whatever the build does to its
folders and links meanwhile cannot lead out of them, as nothing here follows a link. BuildKit knows a context again by
its path, and is sent only the files that changed (size, mode, time); so a caller's contexts come to the same path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import AgentError, InvalidRequest, NotFound, SourceFailed, TooLarge
from agent.files import archive, git_source, tree
from agent.requests import GIT_PASSWORD, GitSource, ImageBuildRequest, UploadedSource, WorkspaceContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.builds import Build
    from agent.files.sources import Sources
    from agent.files.workspace import Workspaces
    from agent.settings import SourceSettings
    from agent.stop import Stop
    from agent.work import Held


@dataclass(frozen=True, kw_only=True)
class Context:
    """A context's folder and its Dockerfile, each None if the request has no such."""

    folder: Path | None = None
    dockerfile: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Contexts:
    """Makes them, below one folder. Any thread, each build in one at a time."""

    folder: Path
    workspaces: Workspaces
    sources: Sources
    settings: SourceSettings
    _made: dict[str, Path] = field(default_factory=dict)  # by build

    def __post_init__(self) -> None:
        """Begin with nothing."""
        tree.afresh(self.folder)

    def make(self, held: Held, request: ImageBuildRequest) -> Context:
        """The context of an image build, until `remove`. Raises SourceFailed."""
        self.remove(held.build.id)
        if request.context is None:
            return Context()
        path = self._path(held.build, request)
        self._made[held.build.id] = path
        return self._make(path, held, request)

    def remove(self, build_id: str) -> None:
        """Let go of the build's, if it has one. Raises AgentError if the disk refuses."""
        if build_id not in self._made:
            return
        try:
            tree.remove(self._made[build_id])
        except OSError as error:
            raise AgentError(f"the context of build {build_id} could not be removed: {error.strerror}") from error
        del self._made[build_id]

    def _path(self, build: Build, request: ImageBuildRequest) -> Path:
        what = "\n".join((build.created_by, repr(request.context), request.context_dir))
        path = self.folder / hashlib.sha256(what.encode()).hexdigest()[:32]
        return path if path not in self._made.values() else self.folder / build.id

    def _make(self, path: Path, held: Held, request: ImageBuildRequest) -> Context:
        try:
            self._fill(path, held, request)
            folder = _inside(path, request.context_dir, "context_dir")
            if not folder.is_dir():
                raise InvalidRequest(f"{request.context_dir} is not a folder of the context")
            if request.dockerfile_text is not None:
                return Context(folder=folder)
            dockerfile = _inside(folder, request.dockerfile, "dockerfile")
            if not dockerfile.is_file():
                raise InvalidRequest(f"there is no file {request.dockerfile} in the context")
            return Context(folder=folder, dockerfile=dockerfile)
        except (InvalidRequest, NotFound) as error:
            raise SourceFailed(str(error)) from error
        except OSError as error:
            raise SourceFailed(f"the context could not be read: {error.strerror or error}") from error

    def _fill(self, path: Path, held: Held, request: ImageBuildRequest) -> None:
        source, stop = request.context, held.stop
        tree.remove(path)
        path.mkdir(mode=0o755)
        if isinstance(source, UploadedSource):
            archive.unpack(self.sources.path(source.id), path, self.settings, owner=None, cancelled=stop.asked)
        elif isinstance(source, GitSource):
            git_source.fetch(
                source,
                held.secrets.get(GIT_PASSWORD),
                path,
                timeout=self.settings.git_timeout,
                cancelled=stop.asked,
                note=held.log.note,
            )
            tree.remove(path / ".git")  # as BuildKit does with its own git contexts
        elif isinstance(source, WorkspaceContext) and held.build.parent is not None:
            _Snapshot(self.settings, stop, held.log.note).take(
                self.workspaces.path(held.build.parent), source.path, path
            )


class _Snapshot:
    """Takes a folder of a workspace, in which a build goes on working."""

    def __init__(self, settings: SourceSettings, stop: Stop, note: Callable[[str], None]) -> None:
        self._settings = settings
        self._stop = stop
        self._note = note
        self._files = 0
        self._bytes = 0

    def take(self, workspace: Path, path: str, into: Path) -> None:
        """Link all that is in it into a new folder. Raises InvalidRequest, TooLarge, OSError."""
        names = [name for name in path.split("/") if name not in {"", "."}]
        if path.startswith("/") or ".." in names:
            raise InvalidRequest(f"{path!r} is not below the workspace")
        try:
            with tree.opened(workspace) as top, tree.below(top, names) as here:
                into.chmod(stat.S_IMODE(os.fstat(here).st_mode) | stat.S_IRWXU)
                for folder, at, entry in tree.walk(here, str(into), self._enter):
                    self._take_one(folder, at, entry)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InvalidRequest(f"{path!r} is not a folder of the workspace; links are not followed") from error
        self._stop.check()

    def _enter(self, at: str, name: str) -> str | None:
        return None if self._stop.asked() else f"{at}/{name}"

    def _take_one(self, folder: int, at: str, entry: os.DirEntry[str]) -> None:
        status = entry.stat(follow_symlinks=False)
        self._count(status)
        into = f"{at}/{entry.name}"  # a Path would take as long as the link
        if stat.S_ISDIR(status.st_mode):
            Path(into).mkdir()
            Path(into).chmod(stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
        elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            _link(folder, entry.name, into, status)
        else:
            self._note(f"left out of the context, as it is no file: {entry.name}")

    def _count(self, status: os.stat_result) -> None:
        self._files += 1
        self._bytes += status.st_size if stat.S_ISREG(status.st_mode) else 0
        if self._files > self._settings.max_files:
            raise TooLarge(f"the context has more than {self._settings.max_files} files (sources.max_files)")
        if self._bytes > self._settings.max_unpacked:
            raise TooLarge(f"the context has more than {self._settings.max_unpacked} bytes (sources.max_unpacked)")


def _link(folder: int, name: str, into: str, status: os.stat_result) -> None:
    try:
        os.link(name, into, src_dir_fd=folder, follow_symlinks=False)
    except PermissionError:
        # The kernel lets only those link a file who own it or could write to it (fs.protected_hardlinks, proc(5)).
        _copy(folder, name, Path(into), status)


def _copy(folder: int, name: str, into: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        into.symlink_to(os.readlink(name, dir_fd=folder))
        return
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as content, into.open("xb") as copy:
        shutil.copyfileobj(content, copy)
        os.fchmod(copy.fileno(), stat.S_IMODE(status.st_mode))
    os.utime(into, ns=(status.st_atime_ns, status.st_mtime_ns))


def _inside(folder: Path, name: str, field: str) -> Path:
    """The real path of a name in a folder that nobody changes. Raises InvalidRequest if it leads out."""
    real = Path(os.path.realpath(folder / name))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise InvalidRequest(f"{field} {name!r} leads out of the context")
    return real
