"""The documentation says what the code does."""

import os
import re
from pathlib import Path

import pytest

from agent.settings import Settings, load_settings
from agent.settings.names import ANY, find, names
from agent.settings.reference import page

DOCS = Path(__file__).parent.parent / "docs"


def test_the_settings_page_is_up_to_date():
    assert (DOCS / "settings.md").read_text() == page(Settings), "run scripts/settings-docs"


@pytest.mark.parametrize("name", [name for name in names(Settings) if len(name) > 1], ids=".".join)
def test_every_setting_is_on_the_page_with_its_variable_and_meaning(name):
    text = (DOCS / "settings.md").read_text()
    (row,) = re.findall(rf"^\| `{re.escape('.'.join(name))}` .*\|$", text, re.MULTILINE)
    variable, default, allowed, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", row)[2:6])
    assert variable == ("-" if ANY in name else f"`SIBLING_{'__'.join(name).upper()}`")
    assert meaning == find(Settings, name).description
    assert default
    assert allowed


def test_the_example_on_the_settings_page_loads(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("SIBLING_")]:
        monkeypatch.delenv(name)
    example = re.search(r"```toml\n(.*?)```", (DOCS / "settings.md").read_text(), re.DOTALL)[1]
    (tmp_path / "sibling.toml").write_text(example)
    settings = load_settings(tmp_path / "sibling.toml")
    assert settings != Settings()
    assert settings.builds.max_memory == 16 * 1024**3
