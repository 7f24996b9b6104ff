"""What builds leave for others: files moved out of the workspace before it goes, kept until the build is forgotten."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from agent.builds import Artifact
from agent.errors import AgentError, NotFound, TooLarge
from agent.files import artifact_search, globs, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

MAX_SEEN = 2_000_000  # entries looked at for one build; names of folders still to be looked at are held in memory
_NO_SUCH = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}


def check_glob(pattern: str) -> None:
    """Raises InvalidRequest if it is absolute or has `..`."""
    globs.parse(pattern)


class Artifacts:
    """The artifacts of one service, by build id. May be called from any thread, for each build by one at a time."""

    def __init__(self, folder: Path, max_bytes: int, max_files: int, *, max_seen: int = MAX_SEEN) -> None:
        """`folder` must be on the workspaces' file system, since files are moved and not copied."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._max_seen = max_seen
        folder.mkdir(mode=0o700, exist_ok=True)

    def collect(
        self, build_id: str, workspace: Path, patterns: Sequence[str], note: Callable[[str], None] = lambda _: None
    ) -> tuple[Artifact, ...]:
        """Move the files that match out of the workspace of a build that has ended; returns all that is kept of it.

        Links are neither followed nor kept, nor is anything else that is no file; `note` is told of those, and of globs
        that named nothing. A collection that was killed is gone on with. Nothing is kept if it raises: TooLarge over a
        limit, InvalidRequest for a wrong glob, AgentError if the workspace is too wide or the disk refuses.
        """
        try:
            with tree.opened(workspace) as top:
                files = artifact_search.files(top, patterns, self._max_seen, note)
                self._move(build_id, top, self._within_limits(build_id, files))
        except OSError as error:
            self.delete(build_id)
            raise AgentError(f"the artifacts of build {build_id} could not be kept: {error.strerror}") from error
        except AgentError:
            self.delete(build_id)
            raise
        return self.list(build_id)

    def list(self, build_id: str) -> tuple[Artifact, ...]:
        """All artifacts of a build by path; none if it left none, or is not known."""
        try:
            with tree.opened(tree.child(self._folder, build_id)) as top:
                found = [
                    Artifact(path=path + entry.name, size=entry.stat(follow_symlinks=False).st_size)
                    for _, path, entry in tree.walk(top, "", lambda path, name: f"{path}{name}/")
                    if entry.is_file(follow_symlinks=False)
                ]
        except FileNotFoundError:
            return ()
        return tuple(sorted(found, key=lambda artifact: artifact.path))

    def open(self, build_id: str, path: str) -> Path:
        """Where an artifact is, to be read. Raises NotFound, also for a path that leads elsewhere."""
        names = [name for name in path.split("/") if name not in {"", "."}]
        folder = tree.child(self._folder, build_id)
        if not names or ".." in names or not _is_file(folder, names):
            raise NotFound(f"build {build_id} has no artifact {path!r}")
        return folder.joinpath(*names)

    def delete(self, build_id: str) -> None:
        """Remove all that is kept of a build. Does nothing if nothing is. Raises AgentError if the disk refuses."""
        try:
            tree.remove(tree.child(self._folder, build_id))
        except OSError as error:
            raise AgentError(f"the artifacts of build {build_id} were not removed: {error.strerror}") from error

    def ids(self) -> Sequence[str]:
        """The builds that have artifacts."""
        return [path.name for path in self._folder.iterdir()]

    def _within_limits(self, build_id: str, files: Iterable[Artifact]) -> Sequence[Artifact]:
        """All files, if they and what is kept already are within the limits."""
        kept = self.list(build_id)
        room, found = self._max_bytes - sum(artifact.size for artifact in kept), []
        for artifact in files:
            found.append(artifact)
            room -= artifact.size
            if room < 0:
                raise TooLarge(
                    f"the artifacts of build {build_id} are over {self._max_bytes} bytes (builds.max_artifacts)"
                )
            if len(kept) + len(found) > self._max_files:
                raise TooLarge(f"build {build_id} has over {self._max_files} artifacts (builds.max_artifact_files)")
        return found

    def _move(self, build_id: str, workspace: int, found: Sequence[Artifact]) -> None:
        if not found:
            return
        folder = tree.child(self._folder, build_id)
        folder.mkdir(mode=0o700, exist_ok=True)
        with tree.opened(folder) as kept:
            for artifact in found:
                *above, name = artifact.path.split("/")
                with tree.below(workspace, above) as source, tree.below(kept, above, make=0o700) as here:
                    _claim(name, source)
                    os.rename(name, name, src_dir_fd=source, dst_dir_fd=here)


def _is_file(folder: Path, names: Sequence[str]) -> bool:
    try:
        with tree.opened(folder) as top, tree.below(top, names[:-1]) as here:
            return stat.S_ISREG(os.stat(names[-1], dir_fd=here, follow_symlinks=False).st_mode)
    except ValueError:  # a NUL, or half a character
        return False
    except OSError as error:
        if error.errno in _NO_SUCH:
            return False
        raise


def _claim(name: str, folder: int) -> None:
    """Make it the service's own, and take from it what would let it act for that owner: setuid, setgid."""
    held = tree.handle(name, at=folder)
    try:
        mode = os.fstat(held).st_mode
        os.chown(tree.path(held), os.geteuid(), os.getegid())
        os.chmod(tree.path(held), mode & 0o777 | 0o400)  # noqa: PTH101 - by descriptor
    finally:
        os.close(held)
