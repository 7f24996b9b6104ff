"""What is refused before it is queued: whatever could never run, and whatever policy forbids its caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import grants, policy, references, toolkit
from agent.docker_access import rights
from agent.errors import InvalidRequest, NotFound, Rejected
from agent.files import artifacts, git_source
from agent.images import names
from agent.requests import (
    BuildRequest,
    GitSource,
    ImageBuildRequest,
    ImagePushRequest,
    UploadedSource,
    WorkspaceContext,
)

if TYPE_CHECKING:
    from agent.build_store import BuildStore
    from agent.fields import DockerLevel
    from agent.files.sources import Sources
    from agent.images.cells import Cells
    from agent.policy import Place
    from agent.requests import Request
    from agent.settings import Settings
    from agent.tokens import Token


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Looks at each request before it is queued. Any thread."""

    settings: Settings
    place: Place
    store: BuildStore
    sources: Sources
    cells: Cells

    def admitted(self, request: Request, caller: Token) -> Request:
        """The request as it is to be queued. Raises InvalidRequest, and Rejected if a rule forbids it."""
        if isinstance(request, BuildRequest):
            return self._build(request, caller)
        if isinstance(request, ImageBuildRequest):
            self._image_build(request, caller)
        elif isinstance(request, ImagePushRequest):
            self._image_push(request, caller)
        return request

    def _build(self, request: BuildRequest, caller: Token) -> BuildRequest:
        if caller.build is not None and self.store.get(caller.build).parent is not None:
            raise Rejected(
                "nested", "a build that a build asked for cannot ask for another one; ask for it from the first"
            )
        self._docker(request.docker, caller)
        request = self._with_own_image(request, caller)
        if references.parse(request.image).domain != references.PRIVATE:
            policy.image(request, self.settings.builds)
        policy.limits(request, self.settings.builds, self.place)
        toolkit.task(request, request.secret_values())
        for pattern in request.artifacts:
            artifacts.check_glob(pattern)
        self._source(request.source)
        return request

    def _docker(self, level: DockerLevel, caller: Token) -> None:
        grants.check_docker(caller, level, self.settings.grants)
        rights.check_daemons(level, self.settings.daemon.image)

    def _with_own_image(self, request: BuildRequest, caller: Token) -> BuildRequest:
        """The image that the caller built and named so goes before one of the same name from elsewhere.

        Once it was pushed there, that name means what the registry says, for the caller as for everybody.
        """
        reference = references.parse(request.image)
        own = names.OwnImages(self.store, caller.name)
        if reference.domain == references.PRIVATE:
            if str(reference) not in {self._private(build_id) for build_id in own.by_tag().values()}:
                raise Rejected("owner", f"image {reference} is not one of yours")
        elif (made := own.get(str(reference))) is not None and not names.is_pushed(made, str(reference)):
            return request.model_copy(update={"image": self._private(made.id)})
        return request

    def _private(self, build_id: str) -> str:
        return names.private(self.place.service_id, build_id)

    def _image_build(self, request: ImageBuildRequest, caller: Token) -> None:
        policy.image_limits(request, self.settings.images, self.place)
        self.cells.check(request)
        for tag in map(names.tag, request.tags):
            if request.push:
                grants.may_push(caller, tag, self.settings.grants)
        # A cache that others write to could hold anything; BuildKit takes what it says for the result of a step, and
        # keeps it for everybody. So it is read from where the caller itself may write, and nowhere else.
        for cache in (*request.cache_from, *request.cache_to):
            if (reference := _cache_reference(cache)) is not None:
                grants.may_push(caller, reference, self.settings.grants)
        if isinstance(request.context, WorkspaceContext) and caller.build is None:
            raise InvalidRequest(
                "context: only a build has a workspace, and asks through the socket in its container; upload the "
                "context with PUT /v1/sources"
            )
        self._source(request.context)

    def _image_push(self, request: ImagePushRequest, caller: Token) -> None:
        own = names.OwnImages(self.store, caller.name)
        for name in request.images:
            grants.may_push(caller, names.tag(name), self.settings.grants)
            try:
                own.find(name)
            except NotFound as error:
                raise InvalidRequest(f"images: {error}") from error

    def _source(self, source: object) -> None:
        if isinstance(source, GitSource):
            git_source.check(source)
        if isinstance(source, UploadedSource):
            try:
                self.sources.touch(source.id)
            except NotFound as error:
                raise InvalidRequest(f"source: {error}") from error


def _cache_reference(cache: str) -> str | None:
    """The reference of a cache at a registry."""
    if "=" not in cache:
        return cache
    return dict(part.partition("=")[::2] for part in cache.split(",")).get("ref")
