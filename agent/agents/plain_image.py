"""The image of the service's own containers: it holds nothing but a shell that refuses to be one. Pure.

A job can be aimed at the registration node by its name, and would run there; this is what it meets in place of `sh`.
"""

from __future__ import annotations

import hashlib
import io
import tarfile

from agent import toolkit

_FOLDERS = {"bin": 0o755, "etc": 0o755, "tmp": 0o1777, "workspace": 0o1777, "opt/sibling": 0o755, "run/sibling": 0o755}
_SHELLS = ("bin/sh", "bin/bash")
_REFUSAL = f"""\
#!{toolkit.TARGET}/bin/busybox sh
echo "[sibling] This is the registration node of a Sibling service. It runs no builds: ask for an agent by a label," >&2
echo "[sibling] such as image=python:3.12, and you get one of your own." >&2
exit 1
"""
_PASSWD = "root:x:0:0:root:/tmp:/bin/sh\nsibling:x:10001:10001:sibling:/tmp:/bin/sh\n"  # noqa: S105 - a file, without a password


def archive() -> bytes:
    """The image's files, as a tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder, mode in _FOLDERS.items():
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, mode
            tar.addfile(member)
        for path, text, mode in [("etc/passwd", _PASSWD, 0o644), *((shell, _REFUSAL, 0o755) for shell in _SHELLS)]:
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(text.encode()), mode
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def reference() -> str:
    """The image's name: another content is another image."""
    return f"sibling/plain:{hashlib.sha256(archive()).hexdigest()[:12]}"
