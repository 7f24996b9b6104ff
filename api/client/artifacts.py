"""What a build left, into a local folder; whatever the service says, nothing is written outside of it."""

from __future__ import annotations

import os
from pathlib import Path

from api.client.connection import build_path
from api.client.errors import ClientError
from api.client.terminal import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from api.client.connection import Connection
    from api.client.terminal import Screen


def fetch(connection: Connection, build: Mapping[str, Any], folder: str, screen: Screen) -> None:
    """Download every artifact of the build below `folder`; raises ClientError."""
    for artifact in build["artifacts"]:
        path = artifact["path"]
        screen.status(f"fetching {path} ({size(artifact['size'])})")
        target = _inside(folder, path)
        try:
            keep(pieces(connection, build, artifact), target)
        except OSError as error:
            raise ClientError(f"The artifact {path} cannot be written to {target}: {error.strerror}.") from error
    screen.clear()


def pieces(connection: Connection, build: Mapping[str, Any], artifact: Mapping[str, Any]) -> Iterator[bytes]:
    """The artifact's bytes as they come; raises ClientError, at last if they were not as many as they should be."""
    source = build_path(build["id"], "artifacts", artifact["path"])
    have = 0

    def rest() -> tuple[str, Mapping[str, str]]:
        return source, {"Range": f"bytes={have}-"} if have else {}

    for piece in connection.stream(rest):
        have += len(piece)
        yield piece
    if have != artifact["size"]:
        raise ClientError(f"{artifact['path']} came with {have} bytes instead of {artifact['size']}; it is not whole.")


def keep(data: Iterable[bytes], target: Path) -> None:
    """Write the file: under its own name it appears whole or not at all, in place of a link too. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".sibling-{os.getpid()}.part")
    with part.open("xb") as file:
        try:
            file.writelines(data)
            file.flush()
            part.replace(target)
        except BaseException:
            part.unlink()
            raise


def _inside(folder: str, path: str) -> Path:
    """Where the artifact goes; a link that leads out of the folder counts as outside."""
    outside = ClientError(
        f"The service names an artifact {path!r}, which lies outside of {folder}; it was not fetched."
    )
    *parents, name = path.split("/")
    if "\0" in path or {"", ".", ".."} & {*parents, name}:
        raise outside
    root = os.path.realpath(folder)
    parent = os.path.realpath(Path(root, *parents))
    if os.path.commonpath((root, parent)) != root:
        raise outside
    return Path(parent, name)
