"""A program for the Python that the toolkit gets: its standard library, or a zipapp, as a folder of bytecode.

It is run by the very interpreter that will read the files. They are compared with no source, and in no zip file: a
start spends its time on finding and reading modules, for which `zipimport` takes about twice as long.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

# What a command line for builds never uses: tests, windows, packaging, databases, what developers look at.
_LEFT_OUT = {
    *("test", "tests", "unittest", "doctest.py", "idlelib", "tkinter", "turtle.py", "turtledemo", "curses"),
    *("distutils", "ensurepip", "lib2to3", "venv", "site-packages", "dist-packages", "sqlite3", "dbm", "msilib"),
    *("pydoc.py", "pydoc_data", "pdb.py", "__pycache__", "__phello__", "__hello__.py", "antigravity.py", "this.py"),
}
_UNCHECKED = (1).to_bytes(4, "little")  # PEP 552: by a hash of the source, which is not looked at


def main(what: str, source: str, into: str) -> None:
    """Write the bytecode of the `library` in a folder, or of the `zipapp` in a file, into another folder."""
    modules = {"library": _library, "zipapp": _zipapp}[what](Path(source))
    for name, text, code in modules:
        file = Path(into, f"{name}c")
        file.parent.mkdir(parents=True, exist_ok=True)
        content = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(text) + marshal.dumps(code)
        file.write_bytes(content)


def _library(folder: Path) -> Iterator[tuple[str, bytes, CodeType | None]]:
    """Each module's file, its source and its code, as it was compiled already or else now."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("config-"))
        for name in sorted(files):
            if name.endswith(".py") and name not in _LEFT_OUT:
                path = Path(parent, name)
                code = SourceFileLoader(path.stem, str(path)).get_code(path.stem)
                yield str(path.relative_to(folder)), path.read_bytes(), code


def _zipapp(file: Path) -> Iterator[tuple[str, bytes, CodeType]]:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            source = archive.read(name)
            yield name, source, compile(source, f"sibling/{name}", "exec", dont_inherit=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
