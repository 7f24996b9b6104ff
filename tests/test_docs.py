"""The documentation says what the code does."""

import os
import re
from pathlib import Path
from textwrap import indent

import pytest

from agent.settings import Settings, load_settings
from agent.settings.names import ANY, find, names
from agent.settings.reference import page

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "jenkins").glob("*.md")])


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


def test_the_jenkinsfile_in_the_readme_is_the_tested_example():
    example = (ROOT / "jenkins/examples/build-and-push/Jenkinsfile").read_text()
    assert indent(example, "    ") in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    text = re.sub(r"^(?: {4}|```).*$", "", page.read_text(), flags=re.MULTILINE)
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"there is no {path}"
        assert not anchor or anchor in anchors(target), f"{path} has no #{anchor}"


def anchors(page: Path) -> set[str]:
    """Those that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_test_that_the_security_page_names_is_there():
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "security.md").read_text()))
    there = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert named
    assert named <= there
