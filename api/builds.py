"""Submitting builds, and what has become of them."""

from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Request, Response
from pydantic import BeforeValidator, Field

from agent.builds import BuildState
from agent.fields import parse_duration
from agent.requests import BuildRequest
from agent.requests import Request as AnyRequest
from agent.service import Service
from agent.tokens import Token
from api.auth import Reader, Writer
from api.dependencies import ServiceHere, view
from api.problems import described
from api.views import EXAMPLE_ID, EXAMPLE_REQUESTS, BuildList, BuildView
from api.waiting import while_connected

router = APIRouter(prefix="/v1/builds", tags=["builds"])
MAX_WAIT = 60  # seconds: what proxies in between usually allow an answer to take

Wait = Annotated[
    float,
    Field(ge=0, le=MAX_WAIT),
    BeforeValidator(parse_duration, json_schema_input_type=float | str),
    Query(examples=["30s"], description=f"Answer when it has finished, or after this; {MAX_WAIT}s at most."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Makes a repeated POST harmless: the same key and body by the same token is the same build.",
    ),
]


@router.post(
    "",
    status_code=201,
    operation_id="submitBuild",
    summary="Submit a build",
    responses={
        200: {"model": BuildView, "description": "This Idempotency-Key made this build before."},
        **described(401, 403, 409, 413, 422, 503),
    },
)
async def submit(
    service: ServiceHere,
    token: Writer,
    response: Response,
    request: Annotated[BuildRequest, Body(openapi_examples=EXAMPLE_REQUESTS)],
    idempotency_key: IdempotencyKey = None,
) -> BuildView:
    """Put a build into the queue. It is on the disk when this answers, and will not be lost."""
    return await submitted(service, token, response, request, idempotency_key)


@router.get("", operation_id="listBuilds", summary="List builds, newest first", responses=described(401, 403, 422))
async def list_builds(
    service: ServiceHere,
    token: Reader,
    state: Annotated[
        list[BuildState], Query(default_factory=list, description="Only in this state; may be given again.")
    ],
    limit: Annotated[int, Query(ge=1, le=200, description="Builds on a page.")] = 50,
    cursor: Annotated[str | None, Query(description="`next` of the page before.", examples=[EXAMPLE_ID])] = None,
) -> BuildList:
    """One page of builds; `next` leads to the one after it."""
    found = await service.builds(token, state, cursor, limit + 1)
    page = found[:limit]
    return BuildList(builds=[view(service, build) for build in page], next=page[-1].id if len(found) > limit else None)


@router.get(
    "/{build_id}",
    operation_id="getBuild",
    summary="Show a build, or wait for its end",
    responses=described(401, 403, 404, 422),
)
async def show(service: ServiceHere, _: Reader, request: Request, build_id: str, wait: Wait = 0) -> BuildView:
    """The build as it is now; with `wait`, once it has finished, or as it is after that time."""
    build = await while_connected(request, service.finished(build_id, wait))
    return view(service, build)


@router.post(
    "/{build_id}/cancel",
    status_code=202,
    operation_id="cancelBuild",
    summary="Cancel a build",
    responses={
        200: {"model": BuildView, "description": "It has finished; a queued one by this very request."},
        **described(401, 403, 404),
    },
)
async def cancel(service: ServiceHere, _: Writer, response: Response, build_id: str) -> BuildView:
    """Ask a build to end as ABORTED. It may be asked again, and does nothing to a build that has finished."""
    build = await service.cancel(build_id)
    if build.state is BuildState.FINISHED:
        response.status_code = 200
    return view(service, build)


async def submitted(
    service: Service, token: Token, response: Response, request: AnyRequest, idempotency_key: str | None
) -> BuildView:
    """Queue whatever kind of build it is, and answer with it."""
    build, created = await service.submit(request, token, idempotency_key)
    if not created:
        response.status_code = 200
        response.headers["Idempotency-Replayed"] = "true"
    response.headers["Location"] = f"{router.prefix}/{build.id}"
    return view(service, build)
