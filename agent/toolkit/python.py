"""The Python that `sibling` runs on in containers: a copy of the one that runs this service, complete in itself.

It is the folder `python`, which needs nothing of the image it runs in, as an agent's Java (see `libraries`). It runs as
`python/lib/ld.so --inhibit-cache --library-path python/lib python/bin/python3`, wherever it is: it finds its home by
the path of the program, so that no variable tells it, which children would get as well.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

from agent.errors import InvalidSettings
from agent.toolkit import bytecode, libraries
from agent.toolkit.inside import CLIENT, SHELL, TARGET
from agent.toolkit.programs import output_of

_HOME = "python"
_CURE = "Run the service with a CPython for glibc, such as Debian's or that of the image python:3.13."
# Not the variables, working folder or packages of whoever runs it; and text is UTF-8, whatever locales an image has.
_ALONE = ("-I", "-S", "-B", "-X", "utf8")
# The same for the client, but the folder of its `__main__`, which is ours, is searched. Python runs a file of bytecode
# as it is; for a folder or a zip file it would load `runpy` first.
_CLIENT = ("-E", "-s", "-S", "-B", "-X", "utf8")
_MAIN = f"{CLIENT}/__main__.pyc"
_PARTS = "import json, sys; print(json.dumps([sys.base_prefix, *sys.path]))"
# Extension modules that are left out, and with them their libraries; as in `bytecode`.
_LEFT_OUT = re.compile(r"_?(ctypes_test|test|xx|tkinter|curses|dbm|gdbm|sqlite3|readline|nis|crypt|ossaudiodev)")

_run = partial(output_of, "The Python for `sibling` in containers")


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """A Python on this machine."""

    program: Path
    prefix: Path
    library: Path
    extensions: tuple[Path, ...]
    loader: Path
    shared: tuple[Path, ...]


def ours() -> Path:
    """The program of the Python that runs this service; of a virtual environment, the one that it was made with."""
    return Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}")


@cache  # what a process runs on stays as it is
def examine(program: Path) -> Interpreter:
    """What there is to copy of a Python. Raises InvalidSettings if it is none that could run in other images."""
    loader = libraries.loader_of(program, _CURE)
    parts = [Path(part) for part in json.loads(_run([program, *_ALONE, "-c", _PARTS]))]
    if len(parts) != 4 or not all(part.is_relative_to(parts[0]) for part in parts):
        raise InvalidSettings(f"{program} has its library in other places than a CPython: {parts}. {_CURE}")
    prefix, _, library, folder = parts  # the second one is its library as a zip file, which need not be there
    extensions = tuple(sorted(path for path in folder.glob("*.so") if not _LEFT_OUT.match(path.name)))
    return Interpreter(
        program=program,
        prefix=prefix,
        library=library,
        extensions=extensions,
        loader=loader,
        shared=tuple(sorted(libraries.needed(loader, (program, *extensions)))),
    )


@cache
def identity(python: Interpreter) -> bytes:
    """What a copy of it would be like: another program, module, library or recipe gives another. Raises OSError."""
    recipe = (Path(each.__file__) for each in (bytecode, libraries, sys.modules[__name__]) if each.__file__)
    digest = sha256(str(python.library.relative_to(python.prefix)).encode())
    for path in (python.program, python.loader, *python.extensions, *python.shared, *recipe):
        digest.update(sha256(path.read_bytes()).digest())
    return digest.digest()


def make_runtime(python: Interpreter, folder: Path) -> None:
    """Make the copy in an existing folder. Takes a second. Raises InvalidSettings, OSError."""
    home = folder / _HOME
    libraries.gather(python.loader, python.shared, home / "lib")
    _copy(python.program, home / "bin" / "python3")
    for extension in python.extensions:
        _copy(extension, home / extension.relative_to(python.prefix))
    library = home / python.library.relative_to(python.prefix)
    (library / "lib-dynload").mkdir(parents=True, exist_ok=True)
    _run([python.program, *_ALONE, bytecode.__file__, "library", python.library, library])


def add_client(folder: Path, client: bytes) -> None:
    """Add `sibling` to a toolkit that has the Python: `client` is a zipapp of sources. Raises as `make_runtime`."""
    source = folder / f"{CLIENT}.pyz"
    source.write_bytes(client)
    # By the copy, which shows as well that it runs.
    _run([*_command(folder), *_ALONE, bytecode.__file__, "zipapp", source, folder / CLIENT])
    source.unlink()
    command = folder / "bin" / "sibling"
    command.write_text(SIBLING)
    command.chmod(0o755)


def _copy(file: Path, to: Path) -> None:
    """Without file capabilities, should it have any: those are for the service alone."""
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)
    to.chmod(0o755)


def _command(folder: str | Path) -> list[str]:
    home = f"{folder}/{_HOME}"
    loader = [f"{home}/lib/{libraries.LOADER}", "--inhibit-cache", "--library-path", f"{home}/lib"]
    return [*loader, f"{home}/bin/python3"]


# What an image preloads is made for its own C library.
SIBLING = f"""\
#!{" ".join(SHELL)}
unset LD_PRELOAD LD_AUDIT
exec {shlex.join([*_command(TARGET), *_CLIENT, f"{TARGET}/{_MAIN}"])} "$@"
"""
