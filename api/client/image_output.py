"""What `sibling image build` leaves here: --output, --iidfile and --metadata-file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from api.client import terminal
from api.client.artifacts import keep, pieces
from api.client.errors import ClientError
from api.client.terminal import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from api.client.connection import Connection
    from api.client.terminal import Screen

_TAR = "image.tar"
_STDOUT = "-"


class Output:
    """Where the image's file system goes: into the folder or the tar `destination`; `-` is standard output."""

    def __init__(self, *, folder: bool, destination: str) -> None:
        self.folder = folder
        self.destination = destination

    @property
    def to_standard_output(self) -> bool:
        """Whether it takes standard output for itself."""
        return self.destination == _STDOUT

    def fetch(self, connection: Connection, build: Mapping[str, Any], screen: Screen) -> None:
        """Bring it here; raises ClientError."""
        artifact = next((each for each in build["artifacts"] if each["path"] == _TAR), None)
        if artifact is None:
            raise ClientError(f"Build {build['id']} left no {_TAR}.")
        data = _shown(pieces(connection, build, artifact), artifact["size"], screen)
        if self.to_standard_output:
            for piece in data:
                terminal.output(piece)
        elif self.folder:
            from api.client.unpack import unpack

            unpack(data, self.destination, screen.say)
        else:
            _keep(data, self.destination)


def output_of(text: str) -> Output:
    """The output that --output names; raises ClientError."""
    if "=" not in text:
        return _checked(Output(folder=text != _STDOUT, destination=text))
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    kind, destination = fields.pop("type", ""), fields.pop("dest", "")
    if kind in ("registry", "image"):
        raise ClientError(f"--output type={kind} is --push here; an image is made anyway.")
    if kind not in ("tar", "local") or fields or (kind == "local" and destination in ("", _STDOUT)):
        raise ClientError(f"--output {text} is not understood; write type=tar,dest=FILE, type=local,dest=DIR or DIR.")
    return _checked(Output(folder=kind == "local", destination=destination or _STDOUT))


def prepare(*files: str | None) -> None:
    """Take away what an earlier build left in the files, and see that they can be written. Raises ClientError."""
    for file in filter(None, files):
        path = Path(os.path.realpath(file))
        try:
            if path.is_file():
                path.unlink()
        except OSError as error:
            raise ClientError(f"{file} cannot be replaced: {error.strerror}.") from error
        if not path.parent.is_dir():
            raise ClientError(f"{file} cannot be written: there is no folder {path.parent}.")


def write_id(file: str, image: Mapping[str, Any]) -> None:
    """The image's id alone, as Docker has it; nothing if no image was kept. Raises ClientError."""
    if image["id"]:
        _keep(iter([image["id"].encode()]), file)


def write_metadata(file: str, build: Mapping[str, Any], image: Mapping[str, Any]) -> None:
    """JSON with the keys of `docker buildx build --metadata-file`, and ours. Raises ClientError."""
    facts = {
        "containerimage.digest": image["digest"],
        "containerimage.config.digest": image["id"],
        "image.name": ",".join(image["tags"]),
        "sibling.build": build["id"],
        "sibling.pushed": image["pushed"],
        "sibling.bases": image["bases"],
    }
    known = {name: value for name, value in facts.items() if value not in (None, "")}
    _keep(iter([json.dumps(known, indent=2).encode(), b"\n"]), file)


def _checked(output: Output) -> Output:
    if output.to_standard_output and os.isatty(terminal.OUTPUT):
        raise ClientError("A tar is not written to a terminal; redirect standard output, or give --output FILE.")
    return output


def _keep(data: Iterator[bytes], file: str) -> None:
    path = Path(file)
    try:
        if path.exists() and not path.is_file():  # /dev/null or a pipe, which is not to be replaced by a file
            with path.open("wb") as device:
                device.writelines(data)
        else:
            keep(data, Path(os.path.realpath(path)))
    except OSError as error:
        raise ClientError(f"{file} cannot be written: {error.strerror}.") from error


def _shown(data: Iterator[bytes], whole: int, screen: Screen) -> Iterator[bytes]:
    have = 0
    for piece in data:
        have += len(piece)
        screen.status(f"fetching {_TAR}: {size(have)} of {size(whole)}")
        yield piece
    screen.clear()
