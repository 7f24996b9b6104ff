"""Every setting: its name, default, bounds and meaning. The only reader of the settings file and of the environment.

`Settings()` is the defaults and reads nothing; `load_settings` reads what `sources` finds. docs/settings.md is
made from this module and its neighbours by scripts/settings-docs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping  # noqa: TC003 - pydantic needs it at run time
from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from agent.errors import InvalidSettings
from agent.fields import ByteSize, Duration, parse_duration
from agent.settings.daemon import DaemonSettings
from agent.settings.docker import DockerSettings
from agent.settings.grants import GrantSettings, check_grants
from agent.settings.hooks import HookSettings, check_hooks
from agent.settings.images import ImageSettings
from agent.settings.jenkins import JenkinsSettings
from agent.settings.oidc import OidcSettings, check_issuers
from agent.settings.problems import misplaced, problems, strays
from agent.settings.registries import RegistrySettings, check_registries
from agent.settings.section import (
    GIB,
    MIB,
    TABLE_NAMES,
    Age,
    ImagePatterns,
    Section,
    TableName,
    conflict,
    is_loopback,
    not_below_default,
)
from agent.settings.sources import Variables, find_sources, merge
from agent.settings.templates import Template, TemplateSettings, resolve

Wait = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, le=30 * 24 * 3600, allow_inf_nan=False)]


class ServerSettings(Section):
    """Where the service listens."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on. Without `auth.token_file` only loopback is allowed."
    )
    port: int = Field(8700, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")


class DataSettings(Section):
    """Where the service keeps its files: one named volume, of which builds see only their own part."""

    volume: str = Field(
        "sibling-data",
        pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$",
        json_schema_extra={"allowed": "two or more letters, digits, `_`, `.` or `-`, the first a letter or digit"},
        description="Name of the engine's volume. The service finds its own one when it runs in a container.",
    )
    dir: Path | None = Field(
        None, description="Where the service sees that volume; found by asking the engine if not given."
    )


class EngineSettings(Section):
    """The Docker Engine beside the service."""

    host: str = Field(
        "unix:///var/run/docker.sock",
        pattern=r"^(unix://)?/.+$",
        json_schema_extra={"allowed": "the path of a Unix socket, such as `unix:///var/run/docker.sock`"},
        description="The engine's Unix socket.",
    )
    network: str = Field(
        "sibling",
        min_length=1,
        json_schema_extra={"allowed": "text that is not empty"},
        description="Name of the bridge that builds are put on; made if missing.",
    )
    runtime: str | None = Field(
        None, description="OCI runtime for builds, such as `runsc`; the engine's own if not given."
    )
    timeout: Duration = Field(60, description="How long one call to the engine may take.")
    patience: Duration = Field(600, description="How long running builds wait for an engine that went away.")
    stop_grace: float = Field(10, ge=0, le=600, description="Seconds from TERM to KILL when a build is stopped.")
    pull_timeout: Duration = Field(1800, description="How long a pull may take.")


class QueueSettings(Section):
    """When a queued build may start."""

    slots: int = Field(
        default_factory=lambda: min(1000, 2 * (os.cpu_count() or 1)),
        ge=1,
        le=1000,
        description="Builds at once. Default: two per CPU.",
    )
    starts: int = Field(
        default_factory=lambda: min(100, 2 * (os.cpu_count() or 1)),
        ge=1,
        le=100,
        description="Containers being started at once; more only makes each slower. Default: two per CPU.",
    )
    memory_overcommit: float = Field(
        1.5, ge=0.1, le=100, description="The sum of running builds' memory limits, as a multiple of the host's memory."
    )
    min_free_memory: ByteSize = Field(
        256 * MIB, description="Start nothing while the host has less memory available than this."
    )
    min_free_disk: ByteSize = Field(GIB, description="Start nothing while the data volume has less space than this.")
    max_queued: int = Field(10_000, ge=1, description="Builds that may wait; more are refused with 503.")
    drain: Wait = Field(
        10,
        description="How long a stopping service waits for running builds; what still runs then goes on without it "
        "until the next start.",
    )


class BuildSettings(Section):
    """What one build gets if it does not ask, and the most that it may ask for."""

    allowed_images: ImagePatterns = Field(
        ["**"],
        json_schema_extra={"allowed": "a list of patterns; in a variable, with commas between them"},
        description="Patterns of images that may be used, matched on the full name, such as "
        "`docker.io/library/python:*`; `*` stays within a path part, `**` does not.",
    )
    cpus: float = Field(2, ge=0.01, le=1024, description="CPUs, if the request names none.")
    max_cpus: float = Field(64, ge=0.01, le=1024, description="Most CPUs; never more than the host has.")
    memory: ByteSize = Field(2 * GIB, ge=6 * MIB, description="Memory, if the request names none.")
    max_memory: ByteSize = Field(256 * GIB, description="Most memory; never more than the host has.")
    pids: int = Field(2048, ge=1, description="Processes and threads, if the request names none.")
    max_pids: int = Field(32768, ge=1, description="Most processes and threads.")
    shm_size: ByteSize = Field(64 * MIB, description="Size of /dev/shm, if the request names none.")
    max_shm_size: ByteSize = Field(8 * GIB, description="Largest /dev/shm.")
    tmp_size: ByteSize = Field(
        GIB, description="Size of the tmpfs on /tmp; what is in it counts as the build's memory."
    )
    timeout: Duration = Field(3600, description="How long a build may run, if the request does not say.")
    max_timeout: Duration = Field(24 * 3600, description="Longest timeout.")
    max_log: ByteSize = Field(
        2 * GIB, description="Log kept of one build; what it writes beyond is dropped, and the log says so."
    )
    max_artifacts: ByteSize = Field(10 * GIB, description="Artifacts kept of one build, in all.")
    max_artifact_files: int = Field(10_000, ge=1, description="Artifact files of one build.")

    @field_validator("max_cpus", "max_memory", "max_pids", "max_shm_size", "max_timeout")
    @classmethod
    def _not_below_default(cls, most: float, info: ValidationInfo) -> float:
        return not_below_default("builds", cls, most, info)


class SourceSettings(Section):
    """Uploaded source trees."""

    max_upload: ByteSize = Field(2 * GIB, description="Largest upload, as sent.")
    max_unpacked: ByteSize = Field(8 * GIB, description="Largest tree, unpacked.")
    max_files: int = Field(500_000, ge=1, description="Most entries in one tree.")
    keep: Age = Field(24 * 3600, description="How long an upload is kept after its last use.")
    git_timeout: Duration = Field(600, description="How long fetching a git source may take.")


class RetentionSettings(Section):
    """How long finished builds are kept, with their logs and artifacts."""

    builds: Age = Field(30 * 24 * 3600, description="Age at which a finished build is deleted.")


class AuthSettings(Section):
    """Who may call."""

    token_file: Path | None = Field(
        None,
        description="File of tokens, made by `sibling token create`. Without one the service listens on loopback only "
        "and makes an admin token of its own in the data folder.",
    )


class LogSettings(Section):
    """The service's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is written.")
    format: Literal["console", "json"] = Field("console", description="For people, or one JSON object a line.")


class Settings(BaseSettings):
    """All settings, section by section."""

    model_config = SettingsConfigDict(
        env_prefix="SIBLING_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        enable_decoding=False,
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    server: ServerSettings = ServerSettings()
    data: DataSettings = DataSettings()
    engine: EngineSettings = EngineSettings()
    queue: QueueSettings = QueueSettings()
    builds: BuildSettings = BuildSettings()
    images: ImageSettings = ImageSettings()
    docker: DockerSettings = DockerSettings()
    daemon: DaemonSettings = DaemonSettings()
    registries: Mapping[TableName, RegistrySettings] = Field({}, json_schema_extra={"allowed": TABLE_NAMES})
    grants: Mapping[TableName, GrantSettings] = Field({}, json_schema_extra={"allowed": TABLE_NAMES})
    hooks: Mapping[TableName, HookSettings] = Field({}, json_schema_extra={"allowed": TABLE_NAMES})
    sources: SourceSettings = SourceSettings()
    retention: RetentionSettings = RetentionSettings()
    auth: AuthSettings = AuthSettings()
    jenkins: JenkinsSettings = JenkinsSettings()
    templates: Mapping[TableName, TemplateSettings] = Field(
        {}, json_schema_extra={"allowed": "up to 63 lower-case letters, digits or `-`, the first a letter or digit"}
    )
    oidc: Mapping[TableName, OidcSettings] = Field({}, json_schema_extra={"allowed": TABLE_NAMES})
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the caller gives: `load_settings` reads the sources itself, to say which of them is wrong."""
        return (init_settings,)

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.auth.token_file is None and not is_loopback(self.server.host):
            raise conflict(
                f"Other machines can call {self.server.host}, so auth.token_file is needed; make the file with "
                "`sibling token create`, or set server.host to 127.0.0.1.",
                "server.host",
            )
        return self

    @model_validator(mode="after")
    def _resolvable(self) -> Self:
        for name, template in self.resolved_templates().items():
            if template.docker == "isolated" and self.daemon.image is None:
                at = f"templates.{name}.docker"
                raise conflict(
                    f"{at} = 'isolated' needs an image for daemons; give daemon.image, or take 'scoped'.", at
                )
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        check_issuers(self.oidc)
        check_registries(self.registries)
        check_grants(self.grants)
        check_hooks(self.hooks, self.builds.max_timeout)
        return self

    def resolved_templates(self) -> dict[str, Template]:
        """The templates that have agents, each with what it inherits, in the order of their names."""
        return resolve(self.templates)


def load_settings(path: Path | None = None) -> Settings:
    """Read all sources; the file is `path`, else $SIBLING_CONFIG, else ./sibling.toml or /etc/sibling/sibling.toml.

    Raises InvalidSettings with one sentence per problem, a line each.
    """
    sources = find_sources(Settings, path)
    found = [*strays(Settings, Variables(Settings)), *misplaced(Settings, sources)]
    try:
        settings = Settings(**merge(Settings, sources))
    except ValidationError as error:
        found += problems(Settings, sources, error)
    if found:
        raise InvalidSettings("\n".join(found))
    return settings
