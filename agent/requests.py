"""What a build can be asked to be. A request is checked when it is made, so whatever holds one holds a valid one."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from agent.fields import ByteSize, DockerLevel, Duration, EnvName, Frozen, Label, Secret, SizeText, Text

# A command line reaches the kernel as one argument, and Linux takes 131,072 bytes in one (MAX_ARG_STRLEN, execve(2)).
MAX_COMMANDS_BYTES = 120_000
# Secrets travel through one socket buffer before the container starts; Linux gives a Unix socket about 200 kB.
MAX_SECRETS_BYTES = 64 * 1024
GIT_PASSWORD = "source:password"  # noqa: S105 - a key, not a password
REGISTRY_CONFIG = "registry:config"  # a key, too


def _no_credentials(url: str) -> str:
    if "@" in url.partition("://")[2].partition("/")[0] and not url.startswith("ssh://"):
        raise ValueError("a URL is shown to everybody; give username and password in their own fields")
    return url


class UploadedSource(Frozen):
    """A source tree uploaded before with `PUT /v1/sources`."""

    type: Literal["uploaded"] = "uploaded"
    id: str = Field(pattern=r"^src-[0-9a-f]{32}$", description="The id that `PUT /v1/sources` answered.")


class GitSource(Frozen):
    """A git repository fetched by the service into the workspace; the build never sees the password."""

    type: Literal["git"] = "git"
    url: Annotated[Text, AfterValidator(_no_credentials)] = Field(
        pattern=r"^(https?|ssh|git)://[^\s]+$", max_length=2048, description="https, ssh or git URL."
    )
    ref: Text = Field(
        default="HEAD",
        min_length=1,
        max_length=255,
        pattern=r"^[^\s-][^\s]*$",
        description="Branch, tag, full ref or commit id.",
    )
    username: Text | None = Field(default=None, max_length=256)
    password: Secret | None = Field(default=None, description="Password or access token; never stored in the clear.")


class Concurrency(Frozen):
    """At most `limit` builds that name the same key run at once, whoever posted them."""

    key: Label
    limit: int = Field(default=1, ge=1, le=1000)


class Request(Frozen):
    """What every build may be asked with. Sizes are bytes or `512m`; durations are seconds or `10m`."""

    timeout: Duration | None = Field(default=None, description="Seconds from its start to its stop.")
    cpus: float | None = Field(default=None, ge=0.01, le=1024, allow_inf_nan=False)
    # 6 MiB is the least that the engine accepts (Docker API, HostConfig.Memory).
    memory: Annotated[int, Field(ge=6 * 1024**2, le=2**53), SizeText] | None = None
    labels: dict[Label, Annotated[Text, Field(max_length=1024)]] = Field(default_factory=dict, max_length=64)
    priority: int = Field(default=0, ge=-100, le=100, description="Higher runs first.")
    concurrency: Concurrency | None = None

    def secret_values(self) -> dict[str, str]:
        """Every secret of the request in the clear, by variable name."""
        return {}


class ContainerRequest(Request):
    """What any container of a build may be asked to be."""

    image: Text = Field(min_length=1, max_length=512, pattern=r"^[^\s-][^\s]*$", description="Image to run in.")
    env: dict[EnvName, Text] = Field(default_factory=dict, max_length=1000)
    user: Text | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$",
        max_length=128,
        description="User or uid, with an optional :group; the image's own if absent.",
    )
    pids: int | None = Field(default=None, ge=1, le=4_000_000)
    shm_size: ByteSize | None = None
    pull: Literal["missing", "always", "never"] = "missing"
    docker: DockerLevel = Field(default="none", description="What of Docker it can use, at /var/run/docker.sock.")


class BuildRequest(ContainerRequest):
    """One build, as asked for over HTTP. Sizes are bytes or `512m`; durations are seconds or `10m`."""

    commands: list[Text] | None = Field(
        default=None, min_length=1, max_length=1000, description="Shell lines, run by one `sh -e` in order."
    )
    argv: list[Text] | None = Field(
        default=None, min_length=1, max_length=1000, description="A program and its arguments, run without a shell."
    )
    secrets: dict[EnvName, Secret] = Field(
        default_factory=dict,
        max_length=100,
        description="Variables whose values are masked in the log and never shown by `docker inspect` or this API.",
    )
    source: Annotated[UploadedSource | GitSource, Field(discriminator="type")] | None = None
    workdir: Text = Field(default=".", min_length=1, max_length=4096, description="Absolute, or below the workspace.")
    artifacts: list[Annotated[Text, Field(min_length=1, max_length=1024)]] = Field(
        default_factory=list, max_length=100, description="Globs below the workspace: `*`, `?`, `[...]`, `**`."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.commands is None) == (self.argv is None):
            raise ValueError("give either commands (shell lines) or argv (a program and its arguments)")
        if sum(len(line.encode()) + 1 for line in self.commands or self.argv or ()) > MAX_COMMANDS_BYTES:
            raise ValueError(f"commands are over {MAX_COMMANDS_BYTES} bytes; put a script into the source instead")
        if sum(len(value.encode()) for value in self.secret_values().values()) > MAX_SECRETS_BYTES:
            raise ValueError(f"secrets are over {MAX_SECRETS_BYTES} bytes in all")
        if both := self.env.keys() & self.secrets.keys():
            raise ValueError(f"{', '.join(sorted(both))}: named in env and in secrets")
        return self

    def secret_values(self) -> dict[str, str]:
        """Every secret of the request in the clear, by variable name; the git password under `GIT_PASSWORD`."""
        return _secret_values(self.secrets, self.source)


class HookRequest(BuildRequest):
    """A command on an image that was pushed, as `agent.images.hooks` asks; nobody can post one."""

    registry: dict[Text, Secret] = Field(
        default_factory=dict, description="Docker's config.json as `config`, and what else of it no log may show."
    )

    def secret_values(self) -> dict[str, str]:
        """Every secret of the request in the clear; config.json under `REGISTRY_CONFIG`."""
        login = {f"registry:{name}": value.get_secret_value() for name, value in self.registry.items()}
        return {**super().secret_values(), **login}


class AgentRequest(ContainerRequest):
    """A container for one build of the controller's queue, as the provisioner asks; `timeout` is that build's."""

    node_labels: list[Text] = Field(min_length=1, description="The labels of its node on the controller.")
    template: Text | None = Field(default=None, description="The template that it is made from, if not from a label.")
    caches: dict[Text, Text] = Field(default_factory=dict, description="Named caches, and where they are mounted.")
    heap: ByteSize | None = Field(default=None, description="Largest Java heap of the agent itself.")
    refusal: Text | None = Field(default=None, description="Why it cannot be had, if its label already says so.")


def _secret_values(secrets: dict[str, Secret], source: object) -> dict[str, str]:
    values = {name: value.get_secret_value() for name, value in secrets.items()}
    if isinstance(source, GitSource) and source.password is not None:
        values[GIT_PASSWORD] = source.password.get_secret_value()
    return values


ImageName = Annotated[Text, Field(min_length=1, max_length=512, pattern=r"^[^\s-][^\s]*$")]
ContextPath = Annotated[Text, Field(min_length=1, max_length=4096)]
# As buildx writes them. Other kinds are files of the service's, or need a builder that the engine does not have.
CacheSource = Annotated[
    Text, Field(max_length=1024, pattern=r"^(type=registry,ref=[^\s,=-][^\s,=]*|[^\s,=-][^\s,=]*)$")
]
CacheTarget = Annotated[
    Text, Field(max_length=1024, pattern=r"^(type=inline|type=registry,ref=[^\s,=-][^\s,=]*(,mode=(min|max))?)$")
]
SecretId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$")]


class WorkspaceContext(Frozen):
    """A folder of the asking build's own workspace; only through the socket in its container."""

    type: Literal["workspace"] = "workspace"
    path: ContextPath = Field(default=".", description="Below the workspace, with `/`; symbolic links are refused.")


class ImageBuildRequest(Request):
    """An image to be built by BuildKit, and pushed if asked. Field for field what `docker buildx build` takes."""

    tags: list[ImageName] = Field(default_factory=list, max_length=50, description="References to tag it with.")
    push: bool = Field(default=False, description="Push every tag; refused before the build if policy forbids one.")
    context: Annotated[UploadedSource | GitSource | WorkspaceContext, Field(discriminator="type")] | None = Field(
        default=None, description="The files that the Dockerfile may use; none if absent."
    )
    context_dir: ContextPath = Field(default=".", description="The folder of an upload or a repository to use.")
    dockerfile: ContextPath = Field(default="Dockerfile", description="Its path in the context, with `/`.")
    dockerfile_text: Annotated[Text, Field(min_length=1, max_length=1024 * 1024)] | None = Field(
        default=None, description="The Dockerfile itself, instead of a path."
    )
    build_args: dict[EnvName, Annotated[Text, Field(max_length=32_768)]] = Field(default_factory=dict, max_length=200)
    target: Annotated[Text, Field(min_length=1, max_length=256)] | None = Field(default=None, description="Stage.")
    secrets: dict[SecretId, Secret] = Field(
        default_factory=dict, max_length=100, description="For `RUN --mount=type=secret,id=...`; never in the image."
    )
    image_labels: dict[Label, Annotated[Text, Field(max_length=4096)]] = Field(default_factory=dict, max_length=200)
    platforms: list[Annotated[str, Field(pattern=r"^[a-z0-9]{1,32}/[a-z0-9_]{1,32}(/[a-z0-9]{1,32})?$")]] = Field(
        default_factory=list, max_length=20
    )
    no_cache: bool = False
    pull: bool = Field(default=False, description="Ask the registry for newer base images.")
    cache_from: list[CacheSource] = Field(default_factory=list, max_length=20)
    cache_to: list[CacheTarget] = Field(default_factory=list, max_length=5)
    network: Literal["default", "none"] = Field(default="default", description="What RUN steps are connected to.")
    output: Literal["tar"] | None = Field(
        default=None, description="Keep the image's file system as the artifact `image.tar` instead of an image."
    )
    progress: Literal["plain", "json"] = Field(
        default="plain", description="The log: lines for people, or BuildKit's status messages, a JSON object a line."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.context is None and self.dockerfile_text is None:
            raise ValueError("give a context, or the Dockerfile itself as dockerfile_text")
        if self.push and not self.tags:
            raise ValueError("push needs tags to push")
        if self.output is not None and self.push:
            raise ValueError("an output other than an image cannot be pushed; leave out push or output")
        if sum(len(value.encode()) for value in self.secret_values().values()) > MAX_SECRETS_BYTES:
            raise ValueError(f"secrets are over {MAX_SECRETS_BYTES} bytes in all")
        return self

    def secret_values(self) -> dict[str, str]:
        """Every secret in the clear by its id; the git password under `GIT_PASSWORD`."""
        return _secret_values(self.secrets, self.context)


class ImagePushRequest(Request):
    """Images that the same caller built before, to be pushed under these names."""

    images: list[ImageName] = Field(min_length=1, max_length=50, description="Tags that an image build gave.")
