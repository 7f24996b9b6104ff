"""A service per test, over an engine in memory."""

import pytest

from tests.api.harness import NEVER, Api


@pytest.fixture
async def api(tmp_path):
    """Runs builds."""
    async with Api(tmp_path).running() as running:
        yield running


@pytest.fixture
async def held(tmp_path):
    """Keeps every build queued; its queue holds three."""
    queue = {"min_free_memory": NEVER, "max_queued": 3}
    async with Api(tmp_path, queue=queue).running() as running:
        yield running
