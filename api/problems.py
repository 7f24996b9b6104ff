"""Every error answer is a problem (RFC 9457, application/problem+json). Serves all routes and the OpenAPI."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from agent import errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI
    from starlette.requests import Request

_log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"
# What nginx writes into its log when the caller left before the answer; nobody ever receives it.
CALLER_LEFT = 499
# An error has the status of its nearest class here.
STATUS: Mapping[type[errors.AgentError], int] = {
    errors.AgentError: 500,
    errors.InvalidRequest: 422,
    errors.Rejected: 403,
    errors.InvalidArchive: 422,
    errors.TooLarge: 413,
    errors.StartBeyondEnd: 416,
    errors.InvalidSettings: 500,
    errors.NotFound: 404,
    errors.InvalidIdToken: 401,
    errors.Conflict: 409,
    errors.StaleClaim: 409,
    errors.Unavailable: 503,
    errors.StoreUnavailable: 503,
    errors.LogFailed: 503,
    errors.SourceFailed: 502,
    errors.BuildStepFailed: 502,
    errors.HookFailed: 502,
    errors.ControllerError: 502,
    errors.ControllerUnavailable: 503,
    errors.ControllerRefused: 502,
    errors.NodeExists: 409,
    errors.NodeNotFound: 404,
    errors.EngineError: 502,
    errors.EngineUnavailable: 503,
}
_FAULT = "Sibling failed to do this because of a fault of its own; its log has the details."


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Where it is: `memory`, `secrets.TOKEN`, `limit`; empty for the whole body.")
    message: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:sibling:problem:rejected",
                    "title": "Rejected",
                    "status": 403,
                    "detail": "memory 1.09951e+12 is over the 8.58993e+09 that a build may have here",
                    "instance": "/v1/builds",
                    "rule": "builds.max_memory",
                }
            ]
        }
    )

    type: str = Field(description="`urn:sibling:problem:<slug>`, or `about:blank` if the status says it all.")
    title: str
    status: int
    detail: str = Field(description="A sentence for people: what happened, and what to do.")
    instance: str = Field(description="The path that was asked for.")
    rule: str | None = Field(default=None, description="The setting that forbids it.")
    errors: list[FieldError] | None = Field(default=None, description="What is wrong, field by field.")


def install(app: FastAPI) -> None:
    """Make the app tell every error as a problem, but for faults: those pass, and `layers.Faults` tells them."""
    app.add_exception_handler(errors.AgentError, _agent_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _caller_left)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI says of a route's errors: these statuses, and that any other is a problem too."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        **{status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses},
        "default": {"description": "Any other error", "content": content},
    }


def fault(path: str) -> Response:
    """The answer to whoever met a fault of ours; it tells nothing of our insides."""
    return _about_blank(path, 500, _FAULT)


async def _agent_error(request: Request, error: Exception) -> Response:
    known = next(kind for kind in type(error).__mro__ if kind in STATUS)
    status = STATUS[known]
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("cannot answer", path=request.url.path, error=str(error))
        return fault(request.scope["path"])
    words = re.findall("[A-Z][a-z]*", known.__name__)
    return _answer(
        Problem(
            type=f"urn:sibling:problem:{'-'.join(words).lower()}",
            title=" ".join(words).capitalize(),
            status=status,
            detail=str(error),
            instance=quote(request.scope["path"]),
            rule=error.rule if isinstance(error, errors.Rejected) else None,
        ),
        _headers(error),
    )


def _headers(error: Exception) -> Mapping[str, str]:
    if isinstance(error, errors.Unavailable):
        return {"Retry-After": str(error.retry_after)}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, errors.InvalidIdToken) else {}


async def _validation_error(request: Request, error: Exception) -> Response:
    raw: Sequence[Mapping[str, Any]] = error.errors() if isinstance(error, RequestValidationError) else ()
    return _answer(
        Problem(
            type="urn:sibling:problem:invalid-request",
            title="Invalid request",
            status=422,
            detail="The request is not valid; see `errors`, field by field.",
            instance=quote(request.scope["path"]),
            errors=[FieldError(field=_field(each), message=_message(each)) for each in raw],
        )
    )


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _about_blank(request.scope["path"], error.status_code, error.detail, error.headers)


async def _caller_left(_: Request, __: Exception) -> Response:
    return Response(status_code=CALLER_LEFT)


def _about_blank(path: str, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    title = HTTPStatus(status).phrase
    return _answer(
        Problem(type="about:blank", title=title, status=status, detail=detail, instance=quote(path)), headers
    )


def _answer(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    content = problem.model_dump_json(exclude_none=True)
    return Response(content, problem.status, headers and dict(headers), MEDIA_TYPE)


def _field(error: Mapping[str, Any]) -> str:
    """The field's path without `body`, `query` or `header`, and without a key that is itself what is wrong."""
    location = list(error["loc"])[1:]
    if location[-1:] == ["[key]"]:
        location = location[:-2]
    return "" if error["type"] == "json_invalid" else ".".join(map(str, location))


def _message(error: Mapping[str, Any]) -> str:
    """Pydantic's sentence without the value that it is about: a secret may stand in the wrong place."""
    if error["type"] == "json_invalid":
        return f"This is not JSON: {error['ctx']['error']} at character {error['loc'][1]}."
    message: str = error["msg"].removeprefix("Value error, ")
    for value in (error.get("input"), error.get("ctx", {}).get("tag")):
        if isinstance(value, str):
            message = message.replace(repr(value), "this").replace(f"'{value}'", "this")
    return message
