"""Registries: the service's logins there, and what is asked in their place.

A login is read when it is used and never kept, so that a new password counts at once. It goes to the engine, or into a
folder of the service's own; no build and no log ever gets it.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import InvalidSettings
from agent.files.private_file import read_secret, write_private
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.references import Reference
    from agent.settings.registries import RegistrySettings

TOKEN_USER = "<token>"  # noqa: S105 - what docker-credential-helpers calls the user of an identity token
_HUB = "docker.io"
_HUB_KEY = "https://index.docker.io/v1/"  # its name in Docker's configuration and for credential helpers
_HELPER_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Login:
    """Who the service is for a registry. The user `<token>` means that the password is an identity token."""

    username: str
    password: str = field(repr=False)


class Registries:
    """All registries that there are settings for, by host. `login` may be awaited; the rest does not take long.

    Whatever reads a login raises InvalidSettings, which names the setting that is wrong.
    """

    def __init__(self, tables: Mapping[str, RegistrySettings]) -> None:
        self._tables = {table.host: (f"registries.{name}", table) for name, table in tables.items()}

    async def login(self, host: str) -> Login | None:
        """The login there, or None for everybody's. `host` is as in references."""
        return await in_thread(self._login, host)

    def logins(self) -> dict[str, Login]:
        """Every login that there is, by host. Blocks while credential helpers are asked, 10 s each at most."""
        found = {host: self._login(host) for host in self._tables}
        return {host: login for host, login in found.items() if login is not None}

    def write_docker_config(self, folder: Path) -> None:
        """Write Docker's config.json with every login into a folder that is there; with it buildx logs in. Blocks."""
        write_private(folder / "config.json", docker_config(self.logins()))

    def mirrors(self) -> dict[str, str]:
        """What is asked instead for pulls, by host, such as `mirror.example/hub`."""
        return {host: table.mirror for host, (_, table) in self._tables.items() if table.mirror is not None}

    def mirrored(self, reference: Reference) -> str | None:
        """What is pulled in its place, or None if it is pulled itself."""
        mirror = self.mirrors().get(reference.domain)
        return mirror and f"{mirror}/{str(reference).removeprefix(f'{reference.domain}/')}"

    def _login(self, host: str) -> Login | None:
        at, table = self._tables.get(host, ("", None))
        if table is None:
            return None
        if table.credential_helper is not None:
            return _ask(f"{at}.credential_helper", table.credential_helper, _key(host))
        if table.username is None or table.password_file is None:
            return None
        return Login(table.username, read_secret(f"{at}.password_file", table.password_file))


def docker_config(logins: Mapping[str, Login]) -> str:
    """Docker's config.json with these logins, by host."""
    return json.dumps({"auths": {_key(host): _auth(login) for host, login in logins.items()}})


def _key(host: str) -> str:
    return _HUB_KEY if host == _HUB else host


def _auth(login: Login) -> dict[str, str]:
    if login.username == TOKEN_USER:
        return {"identitytoken": login.password}
    return {"auth": base64.b64encode(f"{login.username}:{login.password}".encode()).decode()}


def _ask(setting: str, helper: str, key: str) -> Login:
    """Ask by the protocol of docker-credential-helpers: `get`, the registry on stdin, JSON on stdout."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=key.encode(),
            capture_output=True,
            timeout=_HELPER_TIMEOUT,
            check=False,
            cwd="/",
        )
    except subprocess.TimeoutExpired as error:
        # Not with what it said so far, which the cause has.
        raise InvalidSettings(
            f"{setting}: {program} did not tell the login for {key} within {error.timeout:g} s; run it by hand to see "
            "why"
        ) from None
    except OSError as error:
        raise InvalidSettings(
            f"{setting}: {program} cannot be run: {error.strerror}; install it on the PATH of the service"
        ) from error
    if done.returncode != 0:
        raise InvalidSettings(
            f"{setting}: {program} has no login for {key}, it ended with {done.returncode}{_said(done.stdout)}; log in "
            "with `docker login` as the service's user, or take out the setting"
        )
    return _told(setting, program, key, done.stdout)


def _said(output: bytes) -> str:
    """Its reason, which helpers write to stdout; but nothing that looks like the JSON of a login."""
    lines = output.decode(errors="replace").split("\n", 1)[0].strip()[:200]
    return f": {lines}" if lines.isprintable() and lines and "{" not in output.decode(errors="replace") else ""


def _told(setting: str, program: str, key: str, output: bytes) -> Login:
    try:
        answer: Any = json.loads(output)
        username, password = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError):
        username = password = None
    if not (isinstance(username, str) and isinstance(password, str) and username and password):
        # Without a cause: that would show what it told.
        raise InvalidSettings(
            f"{setting}: {program} did not tell a login for {key} as JSON with Username and Secret; is it a "
            "credential helper of Docker's?"
        ) from None
    return Login(username, password)
