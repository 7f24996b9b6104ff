"""One look for all, as few requests as will do, and nothing old to act on."""

import asyncio

import pytest

from agent.agents import view as looking
from agent.agents.view import View
from agent.controller import ControllerInfo
from agent.errors import ControllerUnavailable
from tests.agent.agents.steps import computer, item

pytestmark = pytest.mark.anyio


class Controller:
    """Answers from data; a verb in `failures` raises that once."""

    url = "http://jenkins/"

    def __init__(self):
        self.calls, self.failures, self.items, self.session = [], [], [], "first"

    async def info(self):
        self.calls.append("info")
        return ControllerInfo(version="2.541.3", session=self.session, url="", quieting_down=False)

    async def queue(self):
        self.calls.append("queue")
        if self.failures:
            raise self.failures.pop()
        return self.items

    async def computers(self):
        self.calls.append("computers")
        return [computer("n")]


@pytest.fixture
def view():
    return View(controller=Controller(), poll=0.01)


async def test_while_nothing_waits_the_nodes_are_left_alone(view):
    for _ in range(5):
        sight = await view.look()
    assert view.controller.calls == ["info", "queue", "computers", *["queue"] * 4]
    assert set(sight.computers) == {"n"}


async def test_the_nodes_are_asked_for_when_items_wait_or_somebody_watches(view):
    await view.look()
    view.controller.items = [item(1)]
    await view.look()
    view.controller.items = []
    view.watch(asyncio.Event())
    await view.look()
    assert view.controller.calls.count("computers") == 3


async def test_all_who_watch_are_told_of_each_look_until_they_stop(view):
    event = asyncio.Event()
    view.watch(event)
    await view.look()
    assert event.is_set()
    event.clear()
    view.unwatch(event)
    await view.look()
    assert not event.is_set()


async def test_after_a_failure_nothing_old_is_left_and_the_session_is_asked_for_again(view):
    await view.look()
    view.controller.failures.append(ControllerUnavailable("down"))
    with pytest.raises(ControllerUnavailable):
        await view.look()
    assert (view.sight, view.error) == (None, "down")
    view.controller.session = "second"
    assert (await view.look()).session == "second"
    assert view.error is None


async def test_pauses_grow_with_failures_and_end_when_woken(view, monkeypatch):
    monkeypatch.setattr(looking, "_LONGEST", 3600.0)
    view.poll = 600.0
    view.controller.failures.append(ControllerUnavailable("down"))
    with pytest.raises(ControllerUnavailable):
        await view.look()
    pause = asyncio.create_task(view.pause())
    await asyncio.sleep(0)
    view.wake()
    async with asyncio.timeout(5):
        await pause
