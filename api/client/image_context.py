"""PATH and --file of `sibling image build`: where the context and its Dockerfile are, and how the service gets them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from api.client import provenance
from api.client.address import BUILD_SOCKET
from api.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from api.client import dockerignore
    from api.client.address import Address
    from api.client.connection import Connection
    from api.client.terminal import Screen

# Where every build's files are in its container (agent's WORKSPACE).
WORKSPACE = "/workspace"
STDIN = "-"
_URL = re.compile(r"(https?|ssh|git)://")
_SCP = re.compile(r"([A-Za-z0-9_.-]+@[A-Za-z0-9.-]+):(?!/)(.+)", re.DOTALL)
_MAX_DOCKERFILE = 1024 * 1024
_TAR_MAGIC = slice(257, 262)
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


class Context:
    """The request's fields, the local folder if there is one, and what of it to leave out if it is to be uploaded."""

    def __init__(
        self, fields: dict[str, Any], folder: str | None = None, ignored: dockerignore.Dockerignore | None = None
    ) -> None:
        self.fields = fields
        self.folder = folder
        self.ignored = ignored

    def provenance(self) -> dict[str, str]:
        """Labels that tell where its files are from."""
        source = self.fields.get("context", {})
        if source.get("type") == "git":
            return provenance.labels_of_repository(source["url"], source.get("ref"))
        return provenance.labels_of_folder(self.folder)

    def sent(self, connection: Connection, screen: Screen) -> dict[str, Any]:
        """The request's fields, after the upload if there is to be one. Raises ClientError."""
        if self.folder is None or self.ignored is None:
            return self.fields
        from api.client.upload import upload

        source = upload(connection, self.folder, screen, self.ignored)
        return {**self.fields, "context": {"type": "uploaded", "id": source}}


def context_of(
    path: str, file: str | None, address: Address, workspace: str = WORKSPACE, socket: str = BUILD_SOCKET
) -> Context:
    """Look at PATH and --file; nothing is sent yet. Raises ClientError."""
    if path == STDIN:
        if file is not None:
            raise ClientError("With - as PATH the Dockerfile comes from standard input; leave out --file.")
        return Context({"dockerfile_text": _standard_input()})
    if repository := repository_of(path):
        return Context({**repository, **({"dockerfile": file} if file else {})})
    if not Path(path).is_dir():
        raise ClientError(f"{path} is not a folder; give the context's folder, a git URL, or - for standard input.")
    own = address.scheme == "unix" and address.host == socket
    return _local(path, file, workspace if own else None)


def repository_of(url: str) -> dict[str, Any] | None:
    """The fields for `URL[#REF[:FOLDER]]`, as Docker writes a folder of a git repository; None if it is no URL."""
    if (match := _SCP.fullmatch(url)) and not Path(url).exists():
        url = f"ssh://{match[1]}/{match[2]}"
    if not _URL.match(url):
        return None
    address, _, fragment = url.partition("#")
    if urlsplit(address).password is not None:
        raise ClientError(
            "A password in the URL would be seen by everyone who may list processes; "
            "give it with --secret id=GIT_AUTH_TOKEN."
        )
    ref, _, folder = fragment.partition(":")
    context = {"type": "git", "url": address, **({"ref": ref} if ref else {})}
    return {"context": context, **({"context_dir": folder.strip("/")} if folder.strip("/") else {})}


def _local(path: str, file: str | None, workspace: str | None) -> Context:
    root = os.path.realpath(path)
    dockerfile = _Dockerfile(path, file)
    fields = dockerfile.fields(root)
    own_ignore = dockerfile.own_ignore()
    inside = "dockerfile" in fields
    if workspace and (inside or own_ignore is None) and (place := _below(os.path.realpath(workspace), root)):
        return Context({"context": {"type": "workspace", "path": place}, **fields}, root)
    from api.client import dockerignore

    kept = [fields["dockerfile"], f"{fields['dockerfile']}.dockerignore"] if inside else []
    if inside or own_ignore is None:
        kept.append(dockerignore.FILE)  # else the service, which has the Dockerfile alone, would go by it
    ignored = dockerignore.read(own_ignore or Path(root, dockerignore.FILE), kept)
    return Context(fields, root, ignored)


class _Dockerfile:
    def __init__(self, context: str, file: str | None) -> None:
        self._path = Path(file) if file is not None else _default(context)
        self._stdin = file == STDIN
        if not self._stdin and (not self._path.exists() or self._path.is_dir()):
            advice = "Name it with --file." if file is None else "--file is relative to where you are, not to PATH."
            raise ClientError(f"There is no Dockerfile {self._path}. {advice}")

    def fields(self, root: str) -> dict[str, Any]:
        """Its path in the context if it is a file there, else its text: the service follows no links."""
        if self._stdin:
            return {"dockerfile_text": _standard_input()}
        path = Path(os.path.realpath(self._path.parent), self._path.name)
        place = _below(root, str(path))
        if place and path.is_file() and not path.is_symlink():
            return {"dockerfile": place}
        try:
            return {"dockerfile_text": _text(self._path.read_bytes(), str(self._path))}
        except OSError as error:
            raise ClientError(f"The Dockerfile {self._path} cannot be read: {error.strerror}.") from error

    def own_ignore(self) -> Path | None:
        """`NAME.dockerignore` beside it, which goes before the context's."""
        file = self._path.with_name(f"{self._path.name}.dockerignore")
        return file if not self._stdin and file.is_file() else None


def _default(context: str) -> Path:
    """Docker takes `dockerfile` too, if there is no `Dockerfile`."""
    lower = Path(context, "dockerfile")
    upper = Path(context, "Dockerfile")
    return lower if lower.is_file() and not upper.exists() else upper


def _below(root: str, path: str) -> str | None:
    """The path from the root, `.` for the root itself; None if it lies elsewhere."""
    return os.path.relpath(path, root) if os.path.commonpath((root, path)) == root else None


def _standard_input() -> str:
    return _text(sys.stdin.buffer.read(_MAX_DOCKERFILE + 1), "on standard input")


def _text(data: bytes, name: str) -> str:
    if data[_TAR_MAGIC] == b"ustar" or data.startswith(_COMPRESSED):
        raise ClientError(f"The Dockerfile {name} is an archive; unpack it and give its folder.")
    if len(data) > _MAX_DOCKERFILE:
        raise ClientError(f"The Dockerfile {name} is over {_MAX_DOCKERFILE} bytes.")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ClientError(f"The Dockerfile {name} is not text: {error}.") from error
    if not text.strip():
        raise ClientError(f"The Dockerfile {name} is empty.")
    return text
