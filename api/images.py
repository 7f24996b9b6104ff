"""Image builds and pushes; what has become of them is told by the builds they are."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response

from agent.requests import ImageBuildRequest, ImagePushRequest
from api.auth import Reader, Writer
from api.builds import IdempotencyKey, submitted
from api.dependencies import ServiceHere
from api.problems import described
from api.views import EXAMPLE_ID, EXAMPLE_IMAGE_BUILDS, BuildView, ImageList, ImageView

router = APIRouter(prefix="/v1/images", tags=["images"])
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": BuildView, "description": "This Idempotency-Key made this build before."},
    **described(401, 403, 409, 413, 422, 503),
}


@router.post(
    "/builds",
    status_code=201,
    operation_id="submitImageBuild",
    summary="Build an image",
    responses=_RESPONSES,
)
async def build(
    service: ServiceHere,
    token: Writer,
    response: Response,
    request: Annotated[ImageBuildRequest, Body(openapi_examples=EXAMPLE_IMAGE_BUILDS)],
    idempotency_key: IdempotencyKey = None,
) -> BuildView:
    """Queue the build of an image, and its push if asked. What policy forbids is refused here, before anything runs."""
    return await submitted(service, token, response, request, idempotency_key)


@router.post(
    "/pushes",
    status_code=201,
    operation_id="submitImagePush",
    summary="Push images",
    responses=_RESPONSES,
)
async def push(
    service: ServiceHere,
    token: Writer,
    response: Response,
    request: ImagePushRequest,
    idempotency_key: IdempotencyKey = None,
) -> BuildView:
    """Queue the push of images that the same caller built before, by the tags that they were given."""
    return await submitted(service, token, response, request, idempotency_key)


@router.get(
    "", operation_id="listImages", summary="List the images that builds made", responses=described(401, 403, 422)
)
async def list_images(
    service: ServiceHere,
    token: Reader,
    tag: Annotated[str | None, Query(description="Only those with this tag, written in full or in short.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Images on a page.")] = 50,
    cursor: Annotated[str | None, Query(description="`next` of the page before.", examples=[EXAMPLE_ID])] = None,
) -> ImageList:
    """One page of images, newest first. A build sees those of its own job or token alone."""
    found = await service.images(token, tag, cursor, limit + 1)
    page = found[:limit]
    return ImageList(images=[ImageView.of(build) for build in page], next=page[-1].id if len(found) > limit else None)
