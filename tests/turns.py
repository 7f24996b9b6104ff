"""Whether others have their turns while something goes on in the loop."""

import asyncio
from contextlib import asynccontextmanager


class Turns:
    """How many there were."""

    count = 0


@asynccontextmanager
async def turns():
    """Counts the turns that another task has in the block."""
    found = Turns()

    async def other():
        while True:
            found.count += 1
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(other())
    try:
        yield found
    finally:
        beside.cancel()
