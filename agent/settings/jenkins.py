"""The settings of the connection to a Jenkins controller, and of its agents."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from agent.errors import InvalidSettings
from agent.fields import Duration  # noqa: TC001 - pydantic needs it at run time
from agent.settings.section import Heap, Section, conflict

if TYPE_CHECKING:
    from pydantic.config import JsonDict

_URL: JsonDict = {"allowed": "an http or https URL without credentials, such as `https://jenkins.example.com/`"}


class JenkinsSettings(Section):
    """The controller whose queued builds get agents. Without `jenkins.url` the service serves builds over HTTP only."""

    url: str | None = Field(
        None,
        json_schema_extra=_URL,
        description="The controller's URL; needs `jenkins.user` and `jenkins.token_file`.",
    )
    user: str | None = Field(
        None,
        pattern=r"^[^:\x00-\x1f\x7f]+$",
        json_schema_extra={"allowed": "a user's id: text that is not empty, without `:`"},
        description="The user that the service is for the controller.",
    )
    token_file: Path | None = Field(None, description="File with an API token of that user.")
    ca_file: Path | None = Field(
        None,
        description="File of the CA certificates that the service checks an https controller with; the usual ones "
        "if not given. Agents do not get it.",
    )
    agent_url: str | None = Field(
        None,
        json_schema_extra=_URL,
        description="Where agents reach the controller, if not at `jenkins.url`.",
    )
    network: str | None = Field(
        None,
        min_length=1,
        json_schema_extra={"allowed": "text that is not empty"},
        description="The engine's network that agents are put on, such as the one of Jenkins' own container, or "
        "`host`. It must be there already. `engine.network` if not given.",
    )
    java: Path | None = Field(None, description="JDK or JRE that agents run on; found if not given.")
    heap: Heap | None = Field(
        None,
        description="Largest Java heap of an agent, if its template says none; else the JVM takes a quarter of the "
        "container's memory.",
    )
    poll: Duration = Field(0.25, description="Pause between two looks at the controller's queue.")
    timeout: Duration = Field(30, description="How long one call to the controller may take.")
    connect_timeout: Duration = Field(60, description="How long a started agent may take to connect.")
    idle_timeout: Duration = Field(60, description="How long an agent waits for a build if its own went elsewhere.")
    attempts: int = Field(
        3, ge=1, le=100, description="Failures in a row after which the items that wait for a label are cancelled."
    )
    keep_failed: Duration = Field(
        600, description="How long the node of an agent that failed stays, with the reason, before it is deleted."
    )
    lease: Duration = Field(
        900,
        ge=60,
        description="After this long without a sign of life of a service, another one on the same controller may "
        "remove its nodes.",
    )
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$",
        json_schema_extra={"allowed": "up to 63 letters, digits, `.` or `-`, the first a letter or digit"},
        description="Name of this service in the controller's list of nodes; `sibling-` and the beginning of the "
        "service's id if not given.",
    )

    @field_validator("url", "agent_url")
    @classmethod
    def _normalised(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is None:
            return None
        # In its own sentence, since the one for other values shows them.
        if "@" in url:
            raise conflict(
                f"jenkins.{info.field_name} holds an @, as if for credentials; leave them out, they are given by "
                "jenkins.user and jenkins.token_file.",
                f"jenkins.{info.field_name}",
            )
        parts = urlsplit(url)
        # `port` raises ValueError if it is none.
        if not re.fullmatch(r"https?://[^\s?#\\]+", url) or not parts.hostname or parts.port == 0:
            raise ValueError("is not an http or https URL")
        return url.rstrip("/") + "/"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = {"jenkins.url": self.url, "jenkins.user": self.user, "jenkins.token_file": self.token_file}
        given = [name for name, value in needed.items() if value is not None]
        missing = [name for name, value in needed.items() if value is None]
        if given and missing:
            raise conflict(
                f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} given without {' and '.join(missing)}; "
                "a controller needs all three.",
                *given,
            )
        return self


def read_token(path: Path) -> str:
    """The API token in the file. Raises InvalidSettings if there is none."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"jenkins.token_file, {path}, cannot be read: {error}") from error
    if not token:
        raise InvalidSettings(f"jenkins.token_file, {path}, is empty; put an API token of the user into it")
    return token
