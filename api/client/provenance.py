"""Where an image comes from, as labels (OCI image specification, annotations): repository, commit, Jenkins build."""

from __future__ import annotations

import os
import re
import time
from urllib.parse import urlsplit, urlunsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCE = "org.opencontainers.image.source"
_REVISION = "org.opencontainers.image.revision"
_CREATED = "org.opencontainers.image.created"
_BUILD_URL = "org.jenkins-ci.build-url"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_GIT_TIMEOUT = 5.0


def labels_of_folder(folder: str | None) -> dict[str, str]:
    """What Jenkins' git plugin says of the checkout, or else git of the folder, if there is one."""
    url = os.environ.get("GIT_URL") or _git(folder, "config", "--get", "remote.origin.url")
    commit = os.environ.get("GIT_COMMIT") or _git(folder, "rev-parse", "--verify", "HEAD")
    return _given({_SOURCE: without_credentials(url), _REVISION: commit})


def labels_of_repository(url: str, ref: str | None) -> dict[str, str]:
    """What is known before the service has fetched it: the commit only if `ref` is one."""
    return _given({_SOURCE: without_credentials(url), _REVISION: ref if ref and _COMMIT.fullmatch(ref) else ""})


def labels_of_build(*, pushed: bool) -> dict[str, str]:
    """The Jenkins build; and the time, RFC 3339, for images that others will see: it makes every image a new one."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    url = without_credentials(os.environ.get("BUILD_URL", ""))
    return _given({_CREATED: now if pushed else "", _BUILD_URL: url})


def without_credentials(url: str) -> str:
    """The address without password, query and fragment; the user name stays for ssh alone, where it is part of it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if "://" not in url:
        return url  # git@host:path, or a folder
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return urlunsplit((parts.scheme, f"{name}@{host}" if name and parts.scheme == "ssh" else host, parts.path, "", ""))


def _given(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if value}


def _git(folder: str | None, *arguments: str) -> str:
    """What git answers; nothing if there is no folder, no git, no repository or no answer in time."""
    if folder is None or not _in_repository(folder):
        return ""
    import subprocess

    try:
        answer = subprocess.run(
            ["git", *arguments],  # noqa: S607 - whichever git the person has
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.decode("utf-8", "replace").strip()


def _in_repository(folder: str) -> bool:
    """Whether git could find one (git(1), GIT_DIR); to start it for nothing takes longer than all the rest here."""
    parts = os.path.abspath(folder).split("/")  # noqa: PTH100 - quick, too
    above = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    return "GIT_DIR" in os.environ or any(os.path.lexists(f"{each}/.git") for each in above)
