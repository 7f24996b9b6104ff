"""Links in the workspace that name a path as the build has it: to the engine, one below the volume's root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.files import tree

if TYPE_CHECKING:
    from pathlib import Path

_MOST_PARTS, _MOST_LINKS = 64, 40  # Linux' own number of links (path_resolution(7)), so that this comes to an end


def followed(folder: Path, path: str, inside: str) -> str:
    """Where a path in the workspace leads, whose files are in `folder` and which is at `path` in the build.

    Without such links, and where they lead elsewhere, it is as it was. The engine looks for itself afterwards, and lets
    nothing lead out of the volume.
    """
    left, done, links = inside.split("/"), list[str](), 0
    while left:
        if len(left) + len(done) > _MOST_PARTS or links > _MOST_LINKS:
            return inside
        name = left.pop(0)
        if name == ".." and done:
            done.pop()
        elif name == "..":
            return inside
        elif (target := _target(folder, done, name)) is None:
            done += [name] if name not in ("", ".") else []
        else:
            links += 1
            if target.startswith("/"):
                if not f"{target}/".startswith(f"{path}/"):
                    return inside
                done, target = [], target[len(path) :]
            left = [*target.split("/"), *left]
    return "/".join(done)


def _target(folder: Path, names: list[str], name: str) -> str | None:
    """Of the link of that name; None if it is none."""
    try:
        with tree.opened(folder) as top, tree.below(top, names) as here:
            return os.readlink(name or ".", dir_fd=here)
    except OSError:
        return None
