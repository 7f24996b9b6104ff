"""A build's log: piece by piece as Jenkins asks for it, as one stream to the build's end, or as server-sent events."""

import codecs
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.responses import StreamingResponse

from agent.engine import Stream
from agent.service import Service
from agent.threads import in_thread
from api.auth import Reader
from api.dependencies import ServiceHere, view
from api.problems import described
from api.views import LogEvent, moment
from api.waiting import in_turns, with_keep_alives

router = APIRouter(prefix="/v1/builds/{build_id}/log", tags=["logs"])
MAX_PART = 1024**2  # bytes in one answer that is no stream
KEEP_ALIVE = 15.0  # seconds; proxies cut streams that are silent for a minute, some for half of one
RESULT_WAIT = 60.0  # seconds between the end of a log and the result, at most; usually a moment
_STREAMED = {"X-Accel-Buffering": "no"}  # else nginx holds a stream back to fill its buffers
_TEXT = "text/plain; charset=utf-8"
_EVENTS = "text/event-stream"
_ANSWER: dict[str, Any] = {
    "description": "Bytes of the log from `start`; with `follow` or as server-sent events, to the end of the build.",
    "headers": {
        "X-Text-Size": {
            "description": "The offset after this part, to `start` from next; absent from streams.",
            "schema": {"type": "integer"},
        },
        "X-More-Data": {
            "description": "`true` if there is or will be more after this part, else absent.",
            "schema": {"type": "string", "enum": ["true"]},
        },
    },
    "content": {
        _TEXT: {"schema": {"type": "string"}},
        _EVENTS: {
            "schema": {"type": "string"},
            "example": 'event: log\ndata: {"text":"hello\\n","stream":"stdout","at":"2026-03-01T09:30:00Z"}\nid: 6\n\n'
            "event: end\ndata: {...the build...}\n\n",
        },
    },
}


@router.get(
    "",
    operation_id="readLog",
    summary="Read or follow a build's log",
    response_class=Response,
    responses={200: _ANSWER, **described(401, 403, 404, 416, 422)},
)
async def read(
    *,
    service: ServiceHere,
    _: Reader,
    build_id: str,
    start: Annotated[int, Query(ge=0, description="Offset of the first byte to send.")] = 0,
    follow: Annotated[bool, Query(description="Send what is written until the build has finished.")] = False,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[
        int | None,
        Header(alias="Last-Event-ID", ge=0, description="Resumes server-sent events, before `start`."),
    ] = None,
) -> Response:
    """At most 1 MiB as text, with the headers of Jenkins' progressiveText; or a stream, if asked for.

    `Accept: text/event-stream` gives `log` events, whose id is the offset after them, and at last an `end` event with
    the build.
    """
    await service.logged(build_id)
    if _EVENTS in accept.lower():
        start = start if last_event_id is None else last_event_id
        await in_thread(service.logs.read, build_id, start, 0)
        events = with_keep_alives(_events(service, build_id, start), KEEP_ALIVE)
        return EventSourceResponse(events, headers=_STREAMED)
    part = await in_thread(service.logs.read, build_id, start, 0 if follow else MAX_PART)
    if follow:
        pieces = in_turns(service.logs.follow(build_id, start))
        return StreamingResponse(pieces, headers=_STREAMED, media_type=_TEXT)
    headers = {"X-Text-Size": str(part.end)} | ({} if part.complete else {"X-More-Data": "true"})
    return Response(part.data, headers=headers, media_type=_TEXT)


async def _events(service: Service, build_id: str, start: int) -> AsyncGenerator[bytes]:
    """The log from `start` as `log` events, then the finished build as an `end` event."""
    # A character may be cut in two between pieces.
    decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in Stream}
    async with aclosing(service.logs.entries(build_id, start)) as entries:
        async for entry in entries:
            event = LogEvent(
                text=decoders[entry.stream].decode(entry.data),
                stream=entry.stream.name.lower(),
                at=moment(entry.at_ns / 1e9),
            )
            yield format_sse_event(event="log", data_str=event.model_dump_json(), id=str(entry.end))
    build = await service.finished(build_id, RESULT_WAIT)
    yield format_sse_event(event="end", data_str=view(service, build).model_dump_json())
