"""The pages of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .answers import bare, jetty, text
from .calls import page

if TYPE_CHECKING:
    from starlette.responses import Response

    from .calls import Call
    from .things import Item


@page("/queue/api/json")
def queue(call: Call) -> Response:
    return call.export(call.shapes.queue())


@page(r"/queue/item/(\d+)/api/json")
def item(call: Call, number: str) -> Response:
    found = _readable(call, int(number))
    return call.export(call.shapes.item(found)) if found else call.core.answers.not_found()


@page(r"/queue/item/(\d+)")
def item_page(call: Call, number: str) -> Response:
    if _readable(call, int(number)) is None:
        return call.core.answers.not_found()
    api = f"/queue/item/{number}/api/json?tree=cancelled,executable[url]"
    return text(f"Queue item exists. For details check, for example, {api}")


@page("/queue/cancelItem")
def cancel_item(call: Call) -> Response:
    """Cancelling what has left is an error, as is cancelling what was never there; a different one."""
    call.must_post()
    number = call.argument("id") or "0"
    found = _readable(call, int(number))
    if found is None:
        return call.core.answers.broken(f"Provided id ({number}) not found", 404)
    if not call.caller.may("Job/Cancel"):
        return jetty(422, f"Item for id ({number}) is not cancellable")
    if found.state == "left":
        return call.core.answers.broken(f"Could not cancel run for id {number}")
    call.core.runs.cancel(found)
    return bare(204)


@page(r"/queue/item/(\d+)/cancelQueue")
def cancel_queue(call: Call, number: str) -> Response:
    found = _readable(call, int(number))
    if found is None:
        return call.core.answers.not_found()
    call.must_post()
    call.need("Job/Cancel")
    if found.state != "left":
        call.core.runs.cancel(found)
    return bare(204)


def _readable(call: Call, number: int) -> Item | None:
    return call.core.state.item(number) if call.caller.may("Job/Read") else None
