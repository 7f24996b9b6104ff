"""Whether the engine can read a container's users before it starts a command there.

It opens these files without a deadline, and waits for a pipe for ever, with the container locked: nobody can remove it
then, nor any image. It opens them in the container's root, below whatever is mounted there (moby/moby,
daemon/oci_linux.go, getUser).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.files import tar
from agent.gate import rootfs, snapshots
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from agent.gate.gate import Gate
    from agent.gate.rootfs import Looked, Path

_FILES: tuple[Path, ...] = ((b"etc", b"passwd"), (b"etc", b"group"))
_LINKS = {tar.Kind.SYMLINK, tar.Kind.HARD_LINK}
_OPENED = {tar.Kind.FILE, tar.Kind.FOLDER}
_MOST_LOOKS = 5  # each follows a link
_PATIENCE = 20.0  # seconds


async def see_it_can_start(gate: Gate, container: str) -> None:
    """Raise Refused if it cannot. Of a container that never ran, what is there is its image's, seen once for each."""
    image = gate.untouched.pop(container, None)
    if image is None:
        await see_readable(gate, container)
    elif image not in gate.readable:
        async with snapshots.as_image(gate, image) as untouched:
            await see_readable(gate, untouched)
        gate.readable.add(image)


async def see_readable(gate: Gate, container: str) -> None:
    """Raise Refused if the engine would wait for one of the files; one that is not there is none to wait for.

    One of a build at a time, and with an end: what comes before the files in an export may be as large as a disk.
    """
    try:
        async with gate.looking, asyncio.timeout(_PATIENCE):
            await _see_readable(await rootfs.of(gate.upstream, container))
    except TimeoutError as error:
        raise Refused(
            "field",
            f"the container has so much in folders before /etc that its users were not found in {_PATIENCE:g} s; "
            "nothing is started there",
        ) from error


async def _see_readable(look: rootfs.Look) -> None:
    left: dict[Path, Path] = {file: file for file in _FILES}  # and where links lead from it
    for _ in range(_MOST_LOOKS):
        found = await look({path[:depth] for path in left.values() for depth in range(1, len(path) + 1)})
        followed = {file: _followed(file, path, found) for file, path in left.items()}
        left = {file: path for file, path in followed.items() if path is not None}
        if not left:
            return
    raise _refusal(next(iter(left)), "has too many links in its path")


def _followed(file: Path, path: Path, found: Looked) -> Path | None:
    """Where the first link in the path leads; None if there is none, and all is well. Raises Refused."""
    for depth in range(1, len(path) + 1):
        member = found.get(path[:depth])
        if member is None:
            return None
        if member.kind in _LINKS:
            return _target(file, path[:depth], member) + path[depth:]
        if member.kind not in _OPENED:
            raise _refusal(file, "is no file")
    return None


def _target(file: Path, link: Path, member: tar.Member) -> Path:
    """The parts to which a link leads, of which the folder is no link. Raises Refused."""
    text = member.target.encode("utf-8", "surrogateescape")
    from_root = member.kind is tar.Kind.HARD_LINK or text.startswith(b"/")
    parts: list[bytes] = [] if from_root else [*link[:-1]]
    given = rootfs.parts(text)
    up = len(given) - len(given := _without_climb(given))
    if b".." in given:  # behind what may be a link itself
        raise _refusal(file, "has too many links in its path")
    return (*parts[: max(len(parts) - up, 0)], *given)


def _without_climb(parts: Path) -> Path:
    at = 0
    while at < len(parts) and parts[at] == b"..":
        at += 1
    return parts[at:]


def _refusal(path: Path, why: str) -> Refused:
    name = b"/".join(path).decode("utf-8", "replace")
    return Refused("field", f"/{name} of the container {why}; the engine would not start anything there")
