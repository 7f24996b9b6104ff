"""A build store on the disk, with a clock that the test sets."""

import pytest

from agent.build_store import BuildStore
from tests.agent.store_steps import KEY, Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "builds.db"


@pytest.fixture
def store(path, clock):
    store = BuildStore(path, KEY, clock)
    yield store
    store.close()
