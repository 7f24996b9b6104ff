"""The settings of registries: who the service is for them, and where their images are pulled from."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from agent import references
from agent.errors import InvalidRequest
from agent.fields import Text  # noqa: TC001 - pydantic needs it at run time
from agent.settings.section import Section, conflict

if TYPE_CHECKING:
    from collections.abc import Mapping


def _host(text: str) -> str:
    try:
        return references.registry(text)
    except InvalidRequest as error:
        raise ValueError(str(error)) from error  # what pydantic takes for a refusal


def _mirror(text: str) -> str:
    host, slash, prefix = text.partition("/")
    try:
        # A part more, so that docker.io/x is not read as its library.
        whole = references.parse(f"{text}/x/x")
    except InvalidRequest as error:
        raise ValueError(str(error)) from error
    if whole.domain != _host(host) or whole.tag != "latest" or whole.digest:
        raise ValueError(f"{text!r} is not a registry")
    return f"{whole.domain}{slash}{prefix}"


class RegistrySettings(Section):
    """Registries that the service logs in to, or does not ask themselves; a table for each. See images.md.

    NAME is up to 63 lower-case letters, digits or `-`, the first a letter or digit. Logins are used for pulls, pushes
    and caches; no build ever sees one.
    """

    host: Annotated[str, AfterValidator(_host)] = Field(
        json_schema_extra={"allowed": "a host, and its port if it has one: `docker.io` or `registry.example:5000`"},
        description="The registry as it is in the names of images. Docker takes `registry.example` and "
        "`registry.example:443` for two.",
    )
    username: Annotated[Text, Field(pattern=r"^[^:\x00-\x1f\x7f]+$", max_length=256)] | None = Field(
        None,
        json_schema_extra={"allowed": "text that is not empty, without `:`"},
        description="Who the service is there; needs `password_file`. `<token>` if that holds an identity token.",
    )
    password_file: Path | None = Field(
        None,
        description="File with the password or access token, which nobody else may be able to read. It is read at each "
        "use, so a new one counts at once.",
    )
    credential_helper: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+$",
        max_length=64,
        json_schema_extra={"allowed": "lower-case letters, digits or `-`"},
        description="Name of a program `docker-credential-NAME` on PATH that is asked for the login at each use, "
        "instead of `username` and `password_file`.",
    )
    insecure: bool = Field(
        False,
        description="Whether it speaks http, or https with a certificate that nobody checks. The engine must know by "
        "itself, by its own `insecure-registries`.",
    )
    ca_file: Path | None = Field(
        None,
        description="File of the CA certificates that it is checked with; the usual ones if not given. The engine must "
        "have them by itself, in `/etc/docker/certs.d`.",
    )
    mirror: Annotated[str, AfterValidator(_mirror)] | None = Field(
        None,
        json_schema_extra={"allowed": "a host, and a path if need be: `mirror.example:5000` or `mirror.example/hub`"},
        description="What is asked instead for pulls. Images that are there on the engine only, under the registry's "
        "own name, are then not found as bases.",
    )


def check_registries(tables: Mapping[str, RegistrySettings]) -> None:
    """Raise `conflict` for tables that make no sense, alone or together."""
    names: dict[str, str] = {}
    for name, table in tables.items():
        at = f"registries.{name}"
        if (other := names.setdefault(table.host, name)) != name:
            raise conflict(
                f"registries.{other} is for {table.host} already; one registry takes one table.", f"{at}.host"
            )
        _check_login(at, table)
    mirrored = {table.host for table in tables.values() if table.mirror is not None}
    for name, table in tables.items():
        if table.mirror is not None and (host := table.mirror.partition("/")[0]) in mirrored:
            raise conflict(
                f"registries.{name}.mirror, {table.mirror}, is on {host}, which is not asked itself, as it has a "
                "mirror, too; name a registry without one.",
                f"registries.{name}.mirror",
            )


def _check_login(at: str, table: RegistrySettings) -> None:
    if table.credential_helper is not None and (table.username is not None or table.password_file is not None):
        raise conflict(
            f"{at}.credential_helper tells the login, so leave out {at}.username and {at}.password_file; or leave out "
            "the helper.",
            f"{at}.credential_helper",
        )
    if table.username is not None and table.password_file is None:
        raise conflict(f"{at}.username is given without {at}.password_file; a login needs both.", f"{at}.username")
    if table.password_file is not None and table.username is None:
        raise conflict(f"{at}.password_file is given without {at}.username; a login needs both.", f"{at}.password_file")
