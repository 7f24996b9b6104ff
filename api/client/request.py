"""The options of `sibling run` that describe the build, and the request made of them (BuildRequest of the HTTP API)."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from api.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Everything that ends up in the request."""
    add = parser.add_argument
    add("--image", required=True, help="image to run in")
    add(
        "-c",
        "--command",
        dest="commands",
        action="append",
        metavar="LINE",
        help="a shell line; may be repeated, in order",
    )
    add("--env", action="append", default=[], metavar="NAME[=VALUE]", help="a variable; without a value, your own one")
    add(
        "--secret",
        action="append",
        default=[],
        metavar="NAME[=@FILE]",
        help="a variable that is masked in the log; its value is your own variable's, or the file's content",
    )
    add("--artifact", action="append", default=[], metavar="GLOB", help="files to keep, such as 'dist/**'")
    add("--user", help="user or uid, with an optional :group")
    add("--workdir", metavar="DIR", help="where the commands run; absolute, or below the workspace")
    add("--timeout", metavar="T", help="stop the build after this time: seconds, or 90s, 10m, 1h30m")
    add("--cpus", type=float, metavar="N")
    add("--memory", metavar="SIZE", help="memory limit: bytes, or 512m, 2g")
    add("--pids", type=int, metavar="N", help="most processes and threads")
    add("--shm-size", metavar="SIZE", help="size of /dev/shm")
    add("--docker", choices=("none", "scoped", "isolated", "host"), help="what of Docker it can use (default: none)")
    add("--pull", choices=("missing", "always", "never"), help="when to pull the image (default: missing)")
    add("--label", action="append", default=[], metavar="NAME=VALUE", help="a label to find the build by")
    add("--priority", type=int, metavar="N", help="-100 to 100; higher runs first")
    add("--concurrency", metavar="KEY[=LIMIT]", help="run at most LIMIT (default 1) builds with this key at once")
    _add_source(parser)


def _add_source(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("source")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--source", metavar="DIR", help="folder to upload as the workspace; .siblingignore is honoured")
    where.add_argument("--git", metavar="URL", help="repository that the service fetches as the workspace")
    group.add_argument("--ref", help="branch, tag or commit of --git (default: HEAD)")
    group.add_argument("--git-username", metavar="NAME", help="user name for --git")
    group.add_argument(
        "--git-password", metavar="NAME|@FILE", help="your variable, or a file, with the password for --git"
    )


def request_of(options: argparse.Namespace, argv: Sequence[str]) -> dict[str, Any]:
    """The request, without an uploaded source, for it has no id yet. Raises ClientError."""
    if bool(argv) == bool(options.commands):
        raise ClientError("Give either a program after `--`, or shell lines with -c.")
    request = {
        "image": options.image,
        "commands": options.commands,
        "argv": list(argv),
        "env": dict(map(_variable, options.env)),
        "secrets": dict(map(_secret, options.secret)),
        "source": _git(options),
        "artifacts": options.artifact,
        "labels": dict(map(_label, options.label)),
        "concurrency": _concurrency(options.concurrency),
    }
    plain = ("workdir", "user", "timeout", "cpus", "memory", "pids", "shm_size", "pull", "docker", "priority")
    request.update((name, getattr(options, name)) for name in plain)
    return {name: value for name, value in request.items() if value not in (None, [], {})}


def _variable(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    return (name, value) if given else (name, _own(name))


def _own(name: str) -> str:
    if name not in os.environ:
        raise ClientError(f"The variable {name} is not set here.")
    return os.environ[name]


def _secret(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not given:
        return name, _own(name)
    if not value.startswith("@"):
        raise ClientError(
            f"--secret {name}=... would show the value to everyone who may list processes. "
            f"Set the variable {name} and write --secret {name}, or write --secret {name}=@FILE."
        )
    return name, _content(value[1:])


def _content(path: str) -> str:
    try:
        content = Path(path).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(f"The secret file {path} cannot be read as text: {error}.") from error
    # Editors end a one-line file with a line end that is no part of a password; a key of several lines needs its last.
    line = content.rstrip("\r\n")
    return content if "\n" in line else line


def _git(options: argparse.Namespace) -> dict[str, str] | None:
    given = {"ref": options.ref, "username": options.git_username, "password": options.git_password}
    if options.git is None:
        if any(given.values()):
            raise ClientError("--ref, --git-username and --git-password belong to --git.")
        return None
    if urlsplit(options.git).password is not None:
        raise ClientError("A password in --git would be seen by everyone who may list processes; use --git-password.")
    if password := options.git_password:
        given["password"] = _content(password[1:]) if password.startswith("@") else _own(password)
    return {"type": "git", "url": options.git, **{name: value for name, value in given.items() if value}}


def _label(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not given:
        raise ClientError(f"--label {text} lacks a value; write --label {text}=VALUE.")
    return name, value


def _concurrency(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    key, given, limit = text.rpartition("=")
    if not given:
        return {"key": text}
    if not limit.isdecimal():
        raise ClientError(f"--concurrency {text}: {limit!r} is not a number; write KEY or KEY=LIMIT.")
    return {"key": key, "limit": int(limit)}
