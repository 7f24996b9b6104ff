"""What a build left, into a local folder; whatever the service says, nothing is written outside of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.client.connection import build_path
from api.client.errors import ClientError
from api.client.terminal import size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.client.connection import Connection
    from api.client.terminal import Screen


def fetch(connection: Connection, build: Mapping[str, Any], folder: str, screen: Screen) -> None:
    """Download every artifact of the build below `folder`; raises ClientError."""
    for artifact in build["artifacts"]:
        path = artifact["path"]
        screen.status(f"fetching {path} ({size(artifact['size'])})")
        target = _inside(folder, path)
        source = build_path(build["id"], "artifacts", path)
        try:
            _download(connection, source, target, artifact["size"])
        except OSError as error:
            raise ClientError(f"The artifact {path} cannot be written to {target}: {error.strerror}.") from error
    screen.clear()


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


def _download(connection: Connection, source: str, target: Path, expected: int) -> None:
    """The file under its own name appears whole or not at all, in place of a link too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".sibling-{os.getpid()}.part")
    with part.open("xb") as file:
        try:
            file.writelines(connection.stream(lambda: (source, _rest(file.tell()))))
            if file.tell() != expected:
                raise ClientError(
                    f"{target.name} came with {file.tell()} bytes instead of {expected}; it was not kept."
                )
            file.flush()
            part.replace(target)
        except BaseException:
            part.unlink()
            raise


def _rest(have: int) -> Mapping[str, str]:
    return {"Range": f"bytes={have}-"} if have else {}
