"""Who `user` is inside an image: the uid and gid that its /etc/passwd and /etc/group give. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class User:
    """A user of a container; `known` says whether the image's passwd has the uid."""

    uid: int
    gid: int
    known: bool


ROOT = User(0, 0, known=True)


def is_root(user: str) -> bool:
    """Whether Docker runs `user` as root without a look into the image (an empty one is root)."""
    return user.partition(":")[0] in ("", "0", "root") and user.partition(":")[2] in ("", "0", "root")


def find(user: str, passwd: str, group: str) -> User | None:
    """The user that Docker would run, or None if it names one that the image does not know (Docker refuses it then).

    As in moby/sys/user GetExecUser: a name or uid, then the group given, the passwd entry's, or 0.
    """
    name, _, group_name = user.partition(":")
    entry = next((row for row in _rows(passwd, 4) if name in (row[0], row[2])), None)
    if entry is None and not _is_number(name):
        return None
    gid = _gid(group_name, group) if group_name else int(entry[3]) if entry else 0
    return None if gid is None else User(int(entry[2]) if entry else int(name), gid, known=entry is not None)


def with_entry(passwd: str, user: User, home: str) -> str:
    """The passwd file with an entry for the user, so that programs which look themselves up find one."""
    start = passwd if passwd.endswith("\n") or not passwd else passwd + "\n"
    return f"{start}build:x:{user.uid}:{user.gid}:build:{home}:/bin/sh\n"


def _gid(name: str, group: str) -> int | None:
    entry = next((row for row in _rows(group, 3) if name in (row[0], row[2])), None)
    if entry is not None:
        return int(entry[2])
    return int(name) if _is_number(name) else None


def _rows(text: str, numbers_to: int) -> list[list[str]]:
    rows = (line.split(":") for line in text.splitlines())
    return [row for row in rows if len(row) >= numbers_to and all(_is_number(value) for value in row[2:numbers_to])]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
