"""The client as one file that runs on any Python 3.9 or newer, for `GET /cli/sibling`."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from importlib.resources import files

_SHEBANG = b"#!/usr/bin/env python3\n"
_OLDEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file can name
_FILE_MODE = 0o100644 << 16


@cache
def zipapp() -> bytes:
    """The executable zip file (PEP 441); the same bytes for the same sources."""
    package = files("api.client")
    modules = {entry.name: entry.read_bytes() for entry in package.iterdir() if entry.name.endswith(".py")}
    content = {"__main__.py": modules["__main__.py"], "api/__init__.py": b""}
    content |= {f"api/client/{name}": source for name, source in modules.items()}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _OLDEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = _FILE_MODE
            writer.writestr(entry, content[name])
    return _SHEBANG + archive.getvalue()
