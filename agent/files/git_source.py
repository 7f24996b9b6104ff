"""Fetching a git source into a workspace, with the git program.

The repository is a stranger's: git is run without any configuration but ours, so that nothing in it (hooks, filters,
submodules) runs anything here. The password goes through the environment to a credential helper that answers only for
the source's own host; it is on no command line and in no file.
"""

from __future__ import annotations

import base64
import os
import re
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import quote, unquote, urlsplit

from agent.errors import InvalidRequest, SourceFailed
from agent.stop import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from agent.requests import GitSource

_MASK = "**********"
_POLL = 0.2  # seconds between looks at whether to go on
_PATIENCE = 5.0  # seconds that killed processes get to be gone
_MAX_OUTPUT = 64 * 1024  # bytes of git's output that are held; a server may send any amount of it
_MAX_WORDS = 1000  # characters of them that are shown
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
# What git and its servers say to a commit id that they do not hand out by itself (git's fetch-pack.c, upload-pack.c).
_BY_NAME_ONLY = re.compile(r"not our ref|unadvertised object|couldn't find remote ref")
_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$SIBLING_GIT_USER" "$SIBLING_GIT_PASSWORD"; }; f'
)
_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "init.defaultBranch": "main",
    "advice.detachedHead": "false",
    "credential.helper": "",  # none but ours
}
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "http:https:ssh:git",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "HOME": "/nonexistent",  # curl would take a password from a .netrc there
    "LC_ALL": "C",  # so that its words are those that are looked for here
}
_ADVICE = (
    (r"couldn't find remote ref|not our ref|invalid reference|not a tree", "nothing has that name; check the ref"),
    (r"Authentication failed|could not read|error: 40[13]", "check source.username and source.password"),
    (r"not found|does not appear to be a git repo", "check the URL; a private repository needs source.password"),
    (r"Host key verification failed", "add the host's key to the known_hosts file of the service's user"),
    (r"Permission denied \(publickey", "give the service's user a key that the host knows, or use https"),
    (r"certificate", "add the host's certificate authority to those of the service's machine"),
    (r"resolve host|connect|timed out|unable to access", "check the URL, and that the service's machine reaches it"),
)


def check(source: GitSource) -> None:
    """Raises InvalidRequest for a source that git would take for something else, or that would show a password."""
    try:
        url = urlsplit(source.url)
        shown = url.password is not None
        host = url.hostname
    except ValueError:
        host, shown = None, False
    if not host:
        raise InvalidRequest("source.url names no host; write it like https://host/path")
    if shown:
        raise InvalidRequest("source.url has a password in it; give it as source.password, which is kept secret")
    if re.search(r"[:^~?*\[\\]|\.\.|@\{|^\+", source.ref):
        raise InvalidRequest(f"source.ref {source.ref!r} is no branch, tag, full ref or commit id")


def fetch(
    source: GitSource,
    password: str | None,
    into: Path,
    *,
    timeout: float,
    cancelled: Callable[[], bool],
    note: Callable[[str], None],
) -> str:
    """Fetch the source's ref into an empty folder and check it out; returns the commit's id.

    The history is one commit deep where the server allows it; submodules and LFS files are not fetched. `timeout` is in
    seconds, `note` is told what happens. Raises SourceFailed with git's last words, and Stopped once `cancelled`; then
    no process of it is left, but what it wrote so far is.
    """
    try:
        check(source)
    except InvalidRequest as error:
        raise SourceFailed(str(error)) from error
    git = _Git(
        folder=into,
        environment=_environment(source, password),
        secrets=_forms(source, password),
        deadline=time.monotonic() + timeout,
        cancelled=cancelled,
    )
    try:
        commit = _check_out(git, source, note)
    except _GitFailed as error:
        raise SourceFailed(f"git could not fetch {source.ref} of {source.url}: {_with_advice(str(error))}") from None
    except TimeoutError:
        raise SourceFailed(
            f"fetching {source.ref} of {source.url} took over {timeout:g} s, which is sources.git_timeout"
        ) from None
    note(f"the source is at commit {commit}")
    return commit


def _check_out(git: _Git, source: GitSource, note: Callable[[str], None]) -> str:
    note(f"fetching {source.ref} of {source.url}")
    git.run("init", "--quiet", "--template=")
    git.run("remote", "add", "origin", _url(source))
    found = "FETCH_HEAD"
    try:
        git.run("fetch", "--quiet", "--no-tags", "--depth=1", "origin", source.ref)
    except _GitFailed as error:
        if not (_COMMIT.fullmatch(source.ref) and _BY_NAME_ONLY.search(str(error))):
            raise
        note("the server does not hand out that commit by its id; fetching all branches and tags")
        git.run("fetch", "--quiet", "--tags", "origin")
        found = source.ref
    git.run("checkout", "--quiet", "--detach", found, "--")
    return git.run("rev-parse", "HEAD").strip()


class _GitFailed(Exception):
    """git ended with an error; `str()` is its output, secrets masked."""


@dataclass(frozen=True, kw_only=True)
class _Git:
    """Runs git in a folder, until a deadline by the monotonic clock."""

    folder: Path
    environment: Mapping[str, str]
    secrets: tuple[str, ...]
    deadline: float
    cancelled: Callable[[], bool]

    def run(self, *arguments: str) -> str:
        """The end of its output, secrets masked. Raises _GitFailed, TimeoutError, Stopped, SourceFailed without git."""
        try:
            process = subprocess.Popen(
                ["git", *arguments],  # noqa: S607 - git is found on PATH
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise SourceFailed("git is not installed on the service's machine; install it there") from error
        with process:
            try:
                output = self._output(process)
            except BaseException:
                # What talks to the server are children of git in its group; the last of them closes the pipe.
                with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(process.pid, signal.SIGKILL)
                    process.communicate(timeout=_PATIENCE)
                raise
        if process.returncode != 0:
            raise _GitFailed(output)
        return output

    def _output(self, process: subprocess.Popen[bytes]) -> str:
        output = b""
        with selectors.DefaultSelector() as selector:
            key = selector.register(cast("IO[bytes]", process.stdout), selectors.EVENT_READ)
            while True:
                if selector.select(_POLL):
                    piece = os.read(key.fd, _MAX_OUTPUT)
                    output = (output + piece)[-_MAX_OUTPUT:]
                    if not piece:
                        break
                elif process.poll() is not None:
                    break  # something that it left behind holds the pipe
                self._check()
        process.wait()
        return self._masked(output.decode("utf-8", "replace"))

    def _check(self) -> None:
        if self.cancelled():
            raise Stopped
        if time.monotonic() > self.deadline:
            raise TimeoutError

    def _masked(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, _MASK)
        return text


def _url(source: GitSource) -> str:
    """The URL, with the user in it for ssh, which asks for it nowhere else."""
    url = urlsplit(source.url)
    if url.scheme != "ssh" or url.username or not source.username:
        return source.url
    return url._replace(netloc=f"{quote(source.username, safe='')}@{url.netloc}").geturl()


def _user(source: GitSource) -> str:
    """The user to log in as; hosts that take a token for a password ask for some user, and take any."""
    return source.username or unquote(urlsplit(source.url).username or "") or "git"


def _environment(source: GitSource, password: str | None) -> dict[str, str]:
    """The service's own environment (proxies, certificates), without what changes git, and with our configuration."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith("GIT_SSL_")}
    config, login = dict(_CONFIG), {}
    if password is not None:
        if "\n" in password + _user(source):
            raise SourceFailed("source.username or source.password has a line break in it; give them without")
        url = urlsplit(source.url)
        # Asked only for this host: a server that sends git elsewhere does not get the password sent there.
        config[f"credential.{url.scheme}://{url.netloc.rpartition('@')[2]}.helper"] = _HELPER
        login = {"SIBLING_GIT_USER": _user(source), "SIBLING_GIT_PASSWORD": password}
    numbered = {"GIT_CONFIG_COUNT": str(len(config))}
    for number, (key, value) in enumerate(config.items()):
        numbered |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return inherited | _ENVIRONMENT | numbered | login


def _forms(source: GitSource, password: str | None) -> tuple[str, ...]:
    """What the password looks like where a server may send it back to us."""
    if password is None:
        return ()
    basic = base64.b64encode(f"{_user(source)}:{password}".encode()).decode()
    return password, quote(password, safe=""), basic


def _with_advice(output: str) -> str:
    """The last words of git, made fit for a log, and what to do about them."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    words = "; ".join(lines[-5:])[-_MAX_WORDS:] or "it said nothing"
    words = "".join(character if character.isprintable() else "?" for character in words)
    advice = [cure for pattern, cure in _ADVICE if re.search(pattern, output)]
    return f"{words} ({advice[0]})" if advice else words
