"""The settings of hooks: what is done to an image after it was pushed, such as signing it."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, Field

from agent import references
from agent.errors import InvalidRequest
from agent.fields import Duration, EnvName, Text  # noqa: TC001 - pydantic needs them at run time
from agent.files.artifacts import check_glob
from agent.settings.section import ImagePattern, Section, conflict

if TYPE_CHECKING:
    from collections.abc import Mapping

VALUES: Final = ("reference", "tag", "digest", "repository", "build", "caller")
DOCKER_CONFIG: Final = "DOCKER_CONFIG"  # Docker's own variable: the folder of its config.json
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with each `{name}` replaced by its value, and `{{`, `}}` by a brace.

    Values are taken as they are: braces in them mean nothing. Raises ValueError for a name that is not in `values`, and
    for a lone brace.
    """

    def value(match: re.Match[str]) -> str:
        found, name = match[0], match[1]
        if found in ("{{", "}}"):
            return found[0]
        if name not in values:
            raise ValueError(f"{found} in {template!r} stands for nothing")
        return values[name]

    return _BRACES.sub(value, template)


def _template(text: str) -> str:
    filled(text, dict.fromkeys(VALUES, ""))
    return text


def _image(text: str) -> str:
    try:
        reference = references.parse(text)
    except InvalidRequest as error:
        raise ValueError(str(error)) from error  # what pydantic takes for a refusal
    if reference.domain == references.PRIVATE:
        raise ValueError(f"{text!r} is made by a build, and does not stay")
    return text


def _glob(text: str) -> str:
    try:
        check_glob(text)
    except InvalidRequest as error:
        raise ValueError(str(error)) from error  # the same
    return text


class HookSettings(Section):
    """Commands that are run after an image was pushed, in a container of their own; a table for each.

    NAME is up to 63 lower-case letters, digits or `-`, the first a letter or digit. Hooks run one after another in the
    order of their names, each as a build of its own. See [image-hooks.md](image-hooks.md).
    """

    image: Annotated[Text, Field(max_length=512), AfterValidator(_image)] = Field(
        json_schema_extra={"allowed": "an image, such as `registry.example/tools/cosign:v2.4.1`"},
        description="Image that the command runs in. `builds.allowed_images` does not matter here, since no caller "
        "chooses it.",
    )
    argv: Annotated[
        list[Annotated[Text, Field(max_length=4096), AfterValidator(_template)]], Field(min_length=1, max_length=100)
    ] = Field(
        json_schema_extra={
            "allowed": "a list of a program and its arguments, in which only "
            + ", ".join(f"`{{{name}}}`" for name in VALUES)
            + " are replaced; a brace is written twice"
        },
        description="The command, run without a shell. It is run once for each different one that the pushed images "
        "make of it.",
    )
    push: Annotated[list[ImagePattern], Field(min_length=1)] = Field(
        ["**"],
        json_schema_extra={"allowed": "a list of patterns of images, such as `registry.example/team-a/**`"},
        description="Pushed images that it is for: patterns, as in `grants.NAME.push`.",
    )
    env: dict[EnvName, Text] = Field(
        {},
        max_length=1000,
        json_schema_extra={
            "allowed": "a table of variables (letters, digits or `_`, no digit first), such as "
            '`{ SYFT_CHECK_FOR_APP_UPDATE = "false" }`'
        },
        description="Environment variables. Nothing is replaced in them.",
    )
    secret_files: dict[EnvName, Path] = Field(
        {},
        max_length=100,
        json_schema_extra={
            "allowed": 'a table of variables and paths, such as `{ COSIGN_PASSWORD = "/etc/sibling/cosign-password" }`'
        },
        description="Environment variables whose values are secrets: each is read at each run from a file, which "
        "nobody else may be able to read.",
    )
    registry_login: bool = Field(
        False,
        description="Whether the container gets the service's login (`registries.NAME`) for the registry of the pushed "
        "image, as Docker's `config.json` in the folder that `DOCKER_CONFIG` names.",
    )
    artifacts: list[Annotated[Text, Field(min_length=1, max_length=1024), AfterValidator(_glob)]] = Field(
        [],
        max_length=100,
        json_schema_extra={"allowed": "a list of patterns of paths below the workspace, such as `sbom.spdx.json`"},
        description="Files that its build keeps, as the artifacts of any build. The command begins in the workspace.",
    )
    timeout: Duration | None = Field(
        None,
        description="How long it may take; `builds.timeout` if not given. The image build waits, and its own timeout "
        "goes on.",
    )
    required: bool = Field(
        True, description="Whether the image build fails if the hook does; if not, its log says so and no more."
    )


def check_hooks(tables: Mapping[str, HookSettings], max_timeout: float) -> None:
    """Raise `conflict` for tables that make no sense. `max_timeout` is that of builds, in seconds."""
    for name, table in tables.items():
        at = f"hooks.{name}"
        if both := sorted(table.env.keys() & table.secret_files.keys()):
            raise conflict(
                f"{', '.join(both)}: in {at}.env and in {at}.secret_files; take one of them.", f"{at}.secret_files"
            )
        if table.registry_login and DOCKER_CONFIG in table.env.keys() | table.secret_files.keys():
            raise conflict(
                f"{at}.registry_login sets {DOCKER_CONFIG}; leave that variable out, or the login.",
                f"{at}.registry_login",
            )
        if table.timeout is not None and table.timeout > max_timeout:
            raise conflict(
                f"{at}.timeout, {table.timeout:g} s, is over builds.max_timeout, {max_timeout:g} s; lower the first or "
                "raise the second.",
                f"{at}.timeout",
            )
