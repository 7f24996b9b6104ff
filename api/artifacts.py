"""What builds left: the list, and each file with ranges."""

from pathlib import Path

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from agent.threads import in_thread
from api.auth import Reader
from api.dependencies import ServiceHere
from api.problems import described
from api.views import ArtifactList, ArtifactView

router = APIRouter(prefix="/v1/builds/{build_id}/artifacts", tags=["artifacts"])
_BYTES = "application/octet-stream"
_CONTENT = {_BYTES: {"schema": {"type": "string", "format": "binary"}}}


@router.get("", operation_id="listArtifacts", summary="List a build's artifacts", responses=described(401, 403, 404))
async def list_artifacts(service: ServiceHere, _: Reader, build_id: str) -> ArtifactList:
    """All files that the build left; none until it has finished."""
    build = await service.build(build_id)
    return ArtifactList(artifacts=[ArtifactView.model_validate(each) for each in build.artifacts])


@router.get(
    "/{path:path}",
    operation_id="downloadArtifact",
    summary="Download an artifact",
    response_class=Response,
    responses={
        200: {"description": "The file.", "content": _CONTENT},
        206: {"description": "The part that `Range` asked for.", "content": _CONTENT},
        **described(400, 401, 403, 404, 416),
    },
)
async def download(service: ServiceHere, _: Reader, build_id: str, path: str) -> Response:
    """The file as it was; `Range` is honoured, so that a download that was cut can go on."""
    await service.build(build_id)
    return _Download(await in_thread(service.artifacts.open, build_id, path))


class _Download(FileResponse):
    """A file to be saved, never shown; what is wrong with its `Range` is told as a problem."""

    chunk_size = 256 * 1024

    def __init__(self, path: Path) -> None:
        super().__init__(path, media_type=_BYTES, filename=path.name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def refusing(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                size = {name.decode(): value.decode() for name, value in message["headers"] if name == b"content-range"}
                raise HTTPException(message["status"], "The range cannot be sent; the file may be shorter.", size)
            await send(message)

        await super().__call__(scope, receive, refusing)
