"""What was made is known again, however the one before ended."""

import pytest

from agent.gate.journal import Journal


@pytest.fixture
def file(tmp_path):
    return tmp_path / "docker.sock.journal"


@pytest.fixture
def opened(file):
    """Opens the journal once more, as the next one after a kill does."""
    made = []

    def make():
        made.append(Journal(file))
        return made[-1]

    yield make
    for each in made:
        each.delete()


def test_what_was_added_and_not_removed_is_there_again(opened):
    first = opened()
    first.add("container", "c1", "db")
    first.add("volume", "v1")
    first.add("tag", "app:1", "sha256:1")
    first.remove("volume", "v1")
    again = opened()
    assert again.all("container") == {"c1": "db"}
    assert not again.has("volume", "v1")
    assert again.all("tag") == {"app:1": "sha256:1"}


@pytest.mark.parametrize("torn", ['["+", "volume", "v', '["+", "volume", "v2", ""]', "\xe4"])
def test_a_line_that_was_torn_is_as_if_it_had_not_begun(file, opened, torn):
    opened().add("container", "c1")
    with file.open("a") as journal:
        journal.write(torn)
    again = opened()
    again.add("container", "c2")
    assert [*opened().all("container")] == ["c1", "c2"]
    assert opened().count("volume") == 0


def test_a_file_that_is_no_journal_is_told(file):
    file.write_text("hello\n")
    with pytest.raises(ValueError, match="Expecting"):
        Journal(file)


def test_it_does_not_grow_with_what_comes_and_goes(file, opened, monkeypatch):
    monkeypatch.setattr("agent.gate.journal._MOST_LINES", 100)
    journal = opened()
    journal.add("container", "c1", "db")
    for number in range(1000):
        journal.add("volume", f"v{number}")
        journal.remove("volume", f"v{number}")
    assert len(file.read_text().splitlines()) < 150
    assert opened().all("container") == {"c1": "db"}
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in file.parent.iterdir()] == [file.name]
