"""The folders that builds work in, one for each: made fresh, given to the build's user, removed whatever is in them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.errors import AgentError
from agent.files import tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Workspaces:
    """The workspaces of one service, by build id. May be called from any thread, for each build by one at a time.

    Every method raises AgentError if the disk refuses.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o711, exist_ok=True)

    def path(self, build_id: str) -> Path:
        """Where the build's workspace is, or would be. Raises NotFound if that is no id."""
        return tree.child(self._folder, build_id)

    def make(self, build_id: str) -> Path:
        """A fresh folder that everyone may read. What an earlier attempt at the build left is gone."""
        path = self.path(build_id)
        with _told(build_id, "made"):
            tree.remove(path)
            path.mkdir()
            path.chmod(0o755)  # whatever the umask is
        return path

    def give_to(self, build_id: str, uid: int, gid: int) -> None:
        """Let all in it belong to a user, links themselves and not what they lead to."""
        with _told(build_id, "given to its user"), tree.opened(self.path(build_id)) as top:
            for folder, _, entry in tree.walk(top, True, lambda known, _: known):
                os.chown(entry.name, uid, gid, dir_fd=folder, follow_symlinks=False)
            os.fchown(top, uid, gid)

    def remove(self, build_id: str) -> None:
        """Remove it with all that is in it. Does nothing if it is not there."""
        with _told(build_id, "removed"):
            tree.remove(self.path(build_id))

    def ids(self) -> list[str]:
        """The builds that have a workspace."""
        return [path.name for path in self._folder.iterdir()]


@contextmanager
def _told(build_id: str, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AgentError(f"the workspace of build {build_id} could not be {done}: {error.strerror}") from error
