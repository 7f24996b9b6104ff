"""The controller's agent program is followed; a training that fails holds nothing up and is not repeated at once."""

from types import SimpleNamespace

import pytest

from agent.agents import outfit as outfitting
from agent.agents.outfit import Outfit
from agent.errors import EngineError

pytestmark = pytest.mark.anyio


class Training:
    """Fails, and counts."""

    def __init__(self):
        self.runs = self.cleans = 0

    async def run(self, _kit):
        self.runs += 1
        raise EngineError("the program did not connect")

    async def clean(self):
        self.cleans += 1


@pytest.fixture
def training(monkeypatch):
    monkeypatch.setattr(outfitting, "PERIOD", 0)
    monkeypatch.setattr(outfitting.kits, "install_agent", lambda *_: "toolkit/kit")
    return Training()


@pytest.fixture
def outfit(tmp_path, training):
    async def agent_jar():
        return b"PK"

    controller = SimpleNamespace(agent_jar=agent_jar)
    view = SimpleNamespace(info=SimpleNamespace(version="2.541.3"), sight=object(), controller=controller)
    made = Outfit(data_dir=tmp_path, base="toolkit/base", java=tmp_path, view=view, training=training)
    made.view = view
    return made


async def test_agents_do_without_a_training_that_fails(outfit, training):
    for _ in range(3):
        await outfit.turn()
    kit = await outfit.kit()
    assert (kit.path, kit.archive) == ("toolkit/kit", False)
    assert (training.runs, training.cleans) == (1, 1), "once, and nothing of it left"


async def test_it_is_tried_again_later_and_later(outfit, training, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(outfitting, "time", SimpleNamespace(monotonic=lambda: now))
    await outfit.turn()
    now += outfitting.FIRST_PAUSE + 1
    await outfit.turn()
    assert training.runs == 2
    now += outfitting.FIRST_PAUSE + 1
    await outfit.turn()
    assert training.runs == 2
    now += outfitting.FIRST_PAUSE
    await outfit.turn()
    assert training.runs == 3


async def test_another_version_of_the_controller_is_trained_for_at_once(outfit, training):
    await outfit.turn()
    outfit.view.info.version = "2.555.1"
    await outfit.turn()
    assert training.runs == 2
