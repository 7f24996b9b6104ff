"""Uploading source trees for builds."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request

from agent.errors import TooLarge
from api.auth import Writer
from api.dependencies import ServiceHere
from api.problems import described
from api.views import SourceView

router = APIRouter(prefix="/v1/sources", tags=["sources"])
_TAR: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A tar, plain or compressed with gzip or zstd; which one is seen from its first bytes.",
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.put(
    "",
    status_code=201,
    operation_id="uploadSource",
    summary="Upload a source tree",
    openapi_extra=_TAR,
    responses=described(401, 403, 413, 422, 503),
)
async def upload(
    service: ServiceHere,
    _: Writer,
    request: Request,
    content_length: Annotated[int | None, Header(include_in_schema=False)] = None,
) -> SourceView:
    """Keep a tree under an id that builds can name. It is deleted once no build has used it for `sources.keep`."""
    most = service.settings.sources.max_upload
    if content_length is not None and content_length > most:
        raise TooLarge(f"The source has {content_length} bytes; sources.max_upload is {most}.")
    return SourceView.model_validate(await service.upload(request.stream()))
