"""A build's id token, exchanged once for a token of the service; that is kept for the build's next commands.

The service takes each build's id token once, so the answer goes into a file that only this user can read. It is named
after the service and the build, whose claims are read here without being verified: who can set the id token can do no
more than name another file of his own. Processes that come at once wait for the first of them at the file's lock.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
import time
from pathlib import Path

from api.client import times
from api.client.connection import Connection
from api.client.errors import ClientError, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_ADVICE = "Name another folder in SIBLING_CACHE_DIR."
_MOST = 64 * 1024  # bytes of a file
_CONFLICT = 409
_EARLY = 60.0  # seconds before its end from which on a kept token is not used any more
_OLD = 8 * 24 * 3600.0  # seconds; no token is good for longer (`oidc.NAME.token_lifetime`)


def exchanged(file: str | None, url: str, say: Callable[[str], None]) -> str | None:
    """The token that the service at `url` gave for the id token, now or before; None if there is no id token.

    That is read from the file, else from where the environment says. Raises ClientError.
    """
    found = _read(file)
    if found is None:
        return None
    id_token, where = found
    name = _name(id_token, where, url)
    path = _folder()
    try:
        with _opened_folder(path) as folder, _locked(folder, name) as kept:
            token = _kept(kept)
            if token is None:
                token = _write(kept, _ask(id_token, url, path, say))
                _remove_old(folder)
            return token
    except OSError as error:
        raise ClientError(f"The token cannot be kept in {path}: {error.strerror}. {_ADVICE}") from error


def _read(file: str | None) -> tuple[str, str] | None:
    """The id token, and where it was; None if there is none."""
    if file is None and (text := os.environ.get("SIBLING_ID_TOKEN", "").strip()):
        return text, "SIBLING_ID_TOKEN"
    path = file or os.environ.get("SIBLING_ID_TOKEN_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text("utf-8", "replace").strip(), path
    except OSError as error:
        raise ClientError(f"The id token's file {path} cannot be read: {error.strerror}.") from error


def _name(id_token: str, where: str, url: str) -> str:
    try:
        claims = _claims(id_token)
    except (ValueError, LookupError, RecursionError):
        # Without the cause, whose text may hold parts of it.
        raise ClientError(f"{where} holds no id token; one is a line such as eyJhbGci....eyJpc3Mi....") from None
    parts = [url.rstrip("/"), *(claims.get(name) for name in ("iss", "sub", "build_number"))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _claims(id_token: str) -> dict[str, Any]:
    _, payload, _ = id_token.encode("ascii").split(b".")
    claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    if not isinstance(claims, dict):
        raise ValueError("no claims")  # noqa: TRY004 - the caller's kind of error
    return claims


def _folder() -> Path:
    if given := os.environ.get("SIBLING_CACHE_DIR"):
        return Path(given)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime, "sibling")
    try:
        return Path.home() / ".cache" / "sibling"
    except RuntimeError as error:
        raise ClientError(f"The token cannot be kept: this user has no home folder. {_ADVICE}") from error


@contextlib.contextmanager
def _opened_folder(path: Path) -> Iterator[int]:
    """The folder, made if it is missing, as a descriptor: nobody can put another in its place any more."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid():
            raise ClientError(f"The token cannot be kept in {path}, which is another user's. {_ADVICE}")
        if status.st_mode & 0o077:
            raise ClientError(f"The token cannot be kept in {path}, which others can enter: `chmod 700 {path}`.")
        yield folder
    finally:
        os.close(folder)


@contextlib.contextmanager
def _locked(folder: int, name: str) -> Iterator[int]:
    """The file, made if it is missing, once no other process has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    file = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ClientError(f"The file {name}, in which the token is to be kept, is not only yours; remove it.")
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _kept(file: int) -> str | None:
    """The token in the file, if there is one that is good for a while. A file that was cut off counts as none."""
    try:
        answer = json.loads(os.pread(file, _MOST, 0))
        token, end = answer["token"], times.parse(answer["expires_at"]).timestamp()
    except (ValueError, LookupError, TypeError):
        return None
    return token if isinstance(token, str) and end - _EARLY > time.time() else None


def _ask(id_token: str, url: str, folder: Path, say: Callable[[str], None]) -> Any:
    with contextlib.closing(Connection(url, None, say)) as connection:
        try:
            return connection.json("POST", "/v1/tokens", {"id_token": id_token})
        except Refused as error:
            if error.status != _CONFLICT:
                raise
            raise ClientError(
                f"{error} It is not in {folder}: it was exchanged on another machine, by another user or in another "
                "container, or its answer was lost. Exchange in one place, and pass the token on in SIBLING_TOKEN."
            ) from error


def _write(file: int, answer: Any) -> str:
    token = answer.get("token") if isinstance(answer, dict) else None
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise ClientError("The service answered without a token; is it the address of a Sibling?")
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(answer).encode(), 0)
    return token


def _remove_old(folder: int) -> None:
    """Forget what can be good no more, of other builds of this user."""
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            old = time.time() - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime > _OLD
            if old and re.fullmatch("[0-9a-f]{32}", name):
                os.unlink(name, dir_fd=folder)
