"""What the API answers about builds, images and sources: records as JSON, for callers and for the OpenAPI."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from agent.agents.remote import node_name
from agent.builds import BuildState, Reason, Result  # noqa: TC001 - pydantic needs them
from agent.requests import (
    AgentRequest,
    BuildRequest,
    ContainerRequest,
    HookRequest,
    ImageBuildRequest,
    ImagePushRequest,
    Request,
)

if TYPE_CHECKING:
    from fastapi.openapi.models import Example

    from agent.builds import Build

EXAMPLE_ID = "01m2x7k3q8v5w9y1z4a6b8c0de"
_EXAMPLE_REQUEST: dict[str, Any] = {
    "image": "python:3.12",
    "commands": ["pip install .", "pytest -q"],
    "secrets": {"PIP_PASSWORD": "a secret"},
    "memory": "512m",
    "source": {"type": "git", "url": "https://git.example.com/team/app.git", "ref": "main"},
    "artifacts": ["reports/*.xml"],
    "labels": {"job": "app/main"},
}
EXAMPLE_REQUESTS: dict[str, Example] = {
    "least": {"summary": "A command in an image", "value": {"image": "busybox", "commands": ["echo hello"]}},
    "git": {"summary": "Tests of a git repository", "value": _EXAMPLE_REQUEST},
}
EXAMPLE_IMAGE_BUILDS: dict[str, Example] = {
    "inline": {
        "summary": "A Dockerfile alone",
        "value": {"tags": ["hello"], "dockerfile_text": "FROM busybox\nRUN echo hello >/hello\n"},
    },
    "git": {
        "summary": "Build and push from a git repository",
        "value": {
            "tags": ["registry.example/team/app:1", "registry.example/team/app:latest"],
            "push": True,
            "context": {"type": "git", "url": "https://git.example.com/team/app.git", "ref": "main"},
            "build_args": {"VERSION": "1"},
            "secrets": {"npm": "a secret"},
        },
    },
}
_KINDS: dict[type[Request], Literal["container", "agent", "image-build", "image-push"]] = {
    BuildRequest: "container",
    HookRequest: "container",
    AgentRequest: "agent",
    ImageBuildRequest: "image-build",
    ImagePushRequest: "image-push",
}
_EXAMPLE_BUILD: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "kind": "container",
    "state": "finished",
    "image": "python:3.12",
    "image_id": "sha256:5c1b9f6d1e2a",
    "created_by": "jenkins",
    "created_at": "2026-03-01T09:30:00.120000Z",
    "started_at": "2026-03-01T09:30:00.690000Z",
    "finished_at": "2026-03-01T09:31:12.004000Z",
    "result": "FAILURE",
    "reason": "exit-code",
    "message": "exit code 1",
    "exit_code": 1,
    "cancel_requested": False,
    "phases": {"queued": 0.02, "source": 0.31, "run": 71.3},
    "artifacts": [{"path": "reports/unit.xml", "size": 8412}],
    "log_size": 20412,
    "request": {**_EXAMPLE_REQUEST, "secrets": {"PIP_PASSWORD": "**********"}, "memory": 512 * 1024**2},
    "agent": None,
    "image_build": None,
    "parent": None,
    "labels": {"job": "app/main"},
    "links": {
        "self": f"/v1/builds/{EXAMPLE_ID}",
        "log": f"/v1/builds/{EXAMPLE_ID}/log",
        "artifacts": f"/v1/builds/{EXAMPLE_ID}/artifacts",
    },
}


class ArtifactView(BaseModel):
    """A file that a build left."""

    model_config = ConfigDict(from_attributes=True)

    path: str = Field(description="Its path below the workspace.")
    size: int = Field(description="Bytes.")


class ArtifactList(BaseModel):
    """All files that a build left."""

    artifacts: list[ArtifactView]


class Links(BaseModel):
    """Where to go from a build."""

    model_config = ConfigDict(serialize_by_alias=True)

    this: str = Field(alias="self")
    log: str
    artifacts: str


class JobView(BaseModel):
    """A run of a job on the controller."""

    model_config = ConfigDict(from_attributes=True)

    url: str
    number: int
    name: str = Field(examples=["team/app #12"])


class AgentView(BaseModel):
    """What became of an agent on the controller."""

    node: str = Field(description="Its node's name.")
    labels: list[str] = Field(description="Its node's labels.")
    template: str | None
    connected_at: datetime | None
    begun_at: datetime | None = Field(description="When a build came to it.")
    job: JobView | None = Field(description="Which; null until that was seen.")

    @classmethod
    def of(cls, build: Build) -> Self | None:
        """The view of an agent's build; None of any other."""
        record, request = build.agent, build.request
        if record is None or not isinstance(request, AgentRequest):
            return None
        return cls(
            node=node_name(build.id),
            labels=request.node_labels,
            template=request.template,
            connected_at=_moment_or_none(record.connected_at),
            begun_at=_moment_or_none(record.begun_at),
            job=record.job and JobView.model_validate(record.job),
        )


class ReferenceView(BaseModel):
    """An image by its reference, and the digest of its manifest."""

    model_config = ConfigDict(from_attributes=True)

    reference: str
    digest: str | None


class StepView(BaseModel):
    """A step of an image's build, as BuildKit names it."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    cached: bool
    seconds: float


class ImageBuildView(BaseModel):
    """What an image build made, or a push sent."""

    model_config = ConfigDict(from_attributes=True)

    id: str | None = Field(description="The image's own id; null if none was kept.")
    digest: str | None = Field(description="Of its manifest, once a registry has it.")
    size: int | None = Field(description="Bytes, unpacked.")
    tags: list[str]
    pushed: list[ReferenceView]
    bases: list[ReferenceView] = Field(description="Images that it was made from; a digest if the name was resolved.")
    steps: list[StepView]


class ImageView(ImageBuildView):
    """An image, and the build that made it."""

    build: str
    created_at: datetime
    created_by: str

    @classmethod
    def of(cls, build: Build) -> Self:
        """The view of what an image build made."""
        made = ImageBuildView.model_validate(build.image)
        return cls(
            build=build.id, created_at=moment(build.created_at), created_by=build.created_by, **made.model_dump()
        )


class ImageList(BaseModel):
    """One page of images, newest first."""

    images: list[ImageView]
    next: str | None = Field(description="The `cursor` of the next page; null on the last one.", examples=[EXAMPLE_ID])


class BuildView(BaseModel):
    """A build: what was asked for, how far it is, how it ended."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_BUILD]})

    id: str
    kind: Literal["container", "agent", "image-build", "image-push"]
    state: BuildState
    image: str | None = Field(description="What its container is of; null for image builds and pushes.")
    image_id: str | None = Field(description="What the image's name meant when the build began.")
    created_by: str = Field(
        description="The name of the token that posted it; `jenkins:queue` for agents, `hook:` and its name for hooks."
    )
    created_at: datetime
    started_at: datetime | None = Field(description="When its container was started.")
    finished_at: datetime | None
    result: Result | None = Field(description="How it ended, in Jenkins' words; null until it is finished.")
    reason: Reason | None = Field(description="Why it did not succeed.")
    message: str | None = Field(description="The reason in a sentence.")
    exit_code: int | None = Field(description="Null if its command never ran to an end that was seen.")
    cancel_requested: bool
    phases: dict[str, float] = Field(description="Seconds that each part took.")
    artifacts: list[ArtifactView]
    log_size: int = Field(description="Bytes of log so far.")
    request: BuildRequest | AgentRequest | ImageBuildRequest | ImagePushRequest = Field(
        description="As posted, with every secret as `**********`; of agents, as their label or template has it."
    )
    agent: AgentView | None = Field(default=None, description="Of agents for the controller's queue alone.")
    image_build: ImageBuildView | None = Field(default=None, description="Of image builds and pushes alone.")
    parent: str | None = Field(default=None, description="The build that asked for it through its socket.")
    labels: dict[str, str]
    links: Links

    @classmethod
    def of(cls, build: Build, log_size: int) -> Self:
        """The view of a build whose log has so many bytes."""
        outcome = build.outcome
        here = f"/v1/builds/{build.id}"
        return cls(
            id=build.id,
            state=build.state,
            kind=_KINDS[type(build.request)],
            image=build.request.image if isinstance(build.request, ContainerRequest) else None,
            image_id=build.image_id,
            created_by=build.created_by,
            created_at=moment(build.created_at),
            started_at=_moment_or_none(build.started_at),
            finished_at=_moment_or_none(build.finished_at),
            result=outcome and outcome.result,
            reason=outcome and outcome.reason,
            message=outcome and outcome.message,
            exit_code=outcome and outcome.exit_code,
            cancel_requested=build.cancel_requested,
            phases=dict(build.phases),
            artifacts=[ArtifactView.model_validate(each) for each in build.artifacts],
            log_size=log_size,
            request=build.request,
            agent=AgentView.of(build),
            image_build=build.image and ImageBuildView.model_validate(build.image),
            parent=build.parent,
            labels=build.request.labels,
            links=Links.model_validate({"self": here, "log": f"{here}/log", "artifacts": f"{here}/artifacts"}),
        )


class BuildList(BaseModel):
    """One page of builds, newest first."""

    builds: list[BuildView]
    next: str | None = Field(description="The `cursor` of the next page; null on the last one.", examples=[EXAMPLE_ID])


class LogEvent(BaseModel):
    """A piece of log as it was written, in a server-sent event; bytes that are no UTF-8 are U+FFFD."""

    text: str
    stream: Literal["stdout", "stderr", "sibling"]
    at: datetime


class SourceView(BaseModel):
    """An uploaded source tree."""

    model_config = ConfigDict(from_attributes=True)

    id: str = Field(description="For `source` of a build request.", examples=["src-0f8fad5bd9cb469fa16570867728950e"])
    size: int = Field(description="Bytes as sent.")
    files: int = Field(description="Files, folders and links.")
    unpacked_size: int = Field(description="Bytes of all files.")


def moment(seconds: float) -> datetime:
    """A time of the core's, seconds since the epoch, as an RFC 3339 moment in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def _moment_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)
