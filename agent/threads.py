"""Running the synchronous parts (store, files, git) beside the event loop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it in a worker thread and return its value; waits for its end even if the waiting task is cancelled."""
    return await to_thread.run_sync(partial(function, *args, **kwargs))


def allow_threads(count: int) -> None:
    """Let so many calls run at once in the current event loop (anyio's default is 40)."""
    to_thread.current_default_thread_limiter().total_tokens = count
