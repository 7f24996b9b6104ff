"""Settings come from four places in order; a wrong one is refused with its place and what is allowed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.errors import InvalidSettings
from agent.settings import (
    QueueSettings,
    ServerSettings,
    Settings,
    is_loopback,
    load_settings,
)


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No variable of ours, and an empty working folder."""
    for name in [name for name in os.environ if name.upper().startswith("SIBLING_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path):
    """Writes the settings file; its name is in the sentences."""

    def write(text):
        path = tmp_path / "s.toml"
        path.write_text(text)
        return path

    return write


def refused(path=None):
    with pytest.raises(InvalidSettings) as refusal:
        load_settings(path)
    return str(refusal.value).replace(f"{Path.cwd()}/", "").splitlines()


# --- where they come from


def test_nothing_given_means_the_defaults():
    assert load_settings() == Settings()


def test_settings_made_directly_read_no_environment(monkeypatch):
    monkeypatch.setenv("SIBLING_SERVER__PORT", "1")
    assert Settings().server.port == 8700


def test_file_beats_default_secret_beats_file_and_variable_beats_all(file, monkeypatch, tmp_path):
    path = file('[server]\nport = 1\nhost = "::1"\n[log]\nlevel = "debug"\nformat = "json"\n')
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "server__port").write_text("2\n")
    (secrets / "log__level").write_text("error\n")
    monkeypatch.setenv("SIBLING_SECRETS_DIR", str(secrets))
    monkeypatch.setenv("SIBLING_SERVER__PORT", "3")
    settings = load_settings(path)
    assert (settings.server.port, settings.server.host) == (3, "::1")
    assert (settings.log.level, settings.log.format) == ("error", "json")


def test_the_file_is_found_by_argument_then_variable_then_working_folder(file, monkeypatch, tmp_path):
    Path("sibling.toml").write_text("server.port = 1")
    assert load_settings().server.port == 1
    (tmp_path / "other.toml").write_text("server.port = 2")
    monkeypatch.setenv("SIBLING_CONFIG", "other.toml")
    assert load_settings().server.port == 2
    assert load_settings(file("server.port = 3")).server.port == 3


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("SIBLING_AUTH__TOKEN_FILE", "")
    monkeypatch.setenv("SIBLING_CONFIG", "")
    monkeypatch.setenv("SIBLING_SECRETS_DIR", "")
    assert load_settings().auth.token_file is None


def test_sizes_durations_and_lists_may_be_written_for_people(file, monkeypatch):
    monkeypatch.setenv("SIBLING_BUILDS__ALLOWED_IMAGES", "docker.io/library/*, registry.example/**,")
    builds = load_settings(file('[builds]\nmemory = "1.5g"\ntimeout = "1h30m"\nmax_timeout = 7200')).builds
    assert (builds.memory, builds.timeout, builds.max_timeout) == (1536 * 1024**2, 5400, 7200)
    assert builds.allowed_images == ["docker.io/library/*", "registry.example/**"]


def test_a_stopping_service_need_not_wait(file):
    assert load_settings(file("queue.drain = 0")).queue.drain == 0


@pytest.mark.parametrize("cpus", [1, 64, 600])
def test_the_defaults_are_allowed_on_small_and_large_hosts(monkeypatch, cpus):
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    queue = QueueSettings()
    assert 2 <= queue.starts <= 100
    assert 2 <= queue.slots <= 1000


def test_other_variables_of_that_prefix_are_left_alone(monkeypatch):
    ours = ("URL", "TOKEN", "TOKEN_FILE", "ENGINE_DIR", "ENGINE_NAME", "TEST_HOST")
    kubernetes = ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_8700_TCP_ADDR")
    for name in ours + kubernetes:
        monkeypatch.setenv(f"SIBLING_{name}", "tcp://10.0.0.1:80")
    assert load_settings() == Settings()


# --- what is refused


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '[server]\nport = "high"',
            "s.toml:2: server.port = 'high' is not allowed; write a whole number from 0 to 65535.",
        ),
        ("[server]\nport = true", "s.toml:2: server.port = True is not allowed; write a whole number from 0 to 65535."),
        ("[queue]\nmemory_overcommit = nan", "s.toml:2: queue.memory_overcommit = nan is not allowed; "),
        ('[builds]\n\nmemory = "5m"', "s.toml:3: builds.memory = '5m' is not allowed; write a size from 6m to 8192t, "),
        (
            'builds.timeout = "0"',
            "s.toml:1: builds.timeout = '0' is not allowed; write a duration above 0 up to 30d, such as ",
        ),
        ("queue.drain = -1", "s.toml:1: queue.drain = -1 is not allowed; write a duration from 0 to 30d, such as "),
        (
            "[builds]\nallowed_images = [\n  'a',\n  3]",
            "s.toml:2: builds.allowed_images = 3 is not allowed; write a list of ",
        ),
        (
            '[engine]\nhost = "tcp://x"',
            "s.toml:2: engine.host = 'tcp://x' is not allowed; write the path of a Unix socket, ",
        ),
        (
            '[log]\nlevel = "loud"',
            "s.toml:2: log.level = 'loud' is not allowed; write `debug` or `info` or `warning` or ",
        ),
        ("log = 3", "s.toml:1: log is a section; give its settings one by one, such as log.level."),
        ("[server]\nprot = 1", "s.toml:2: there is no setting server.prot; did you mean server.port?"),
        ("\n[sever]\nport = 1", "s.toml:2: there is no setting sever; did you mean server?"),
        ("port = 1", "s.toml:1: there is no setting port; did you mean server.port?"),
        ("[zzz]", "s.toml:1: there is no setting zzz; docs/settings.md has all; the sections are server, data, "),
        ("[server]\nport 1", "s.toml:2: this is not TOML: Expected '=' after a key in a key/value pair."),
        ("a = 1\nb = [1,\n\n", "s.toml:3: this is not TOML: "),
        ("[server]\n[server]", "s.toml:2: this is not TOML: Cannot declare ('server',) twice."),
    ],
)
def test_a_wrong_file_is_refused_with_its_line_and_the_cure(file, text, sentence):
    (told,) = refused(file(text))
    assert told.startswith(sentence)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "SIBLING_SERVER__PORT",
            "-1",
            "SIBLING_SERVER__PORT: server.port = '-1' is not allowed; write a whole number ",
        ),
        (
            "SIBLING_SERVER__PROT",
            "1",
            "SIBLING_SERVER__PROT: there is no setting server.prot; did you mean SIBLING_SERVER__PORT?",
        ),
        (
            "SIBLING_SEVER__PORT",
            "1",
            "SIBLING_SEVER__PORT: there is no setting sever.port; did you mean SIBLING_SERVER__PORT?",
        ),
        ("SIBLING_SERVER_PORT", "1", "SIBLING_SERVER_PORT: write SIBLING_SERVER__PORT, with two underscores."),
        (
            "SIBLING_SERVER",
            "{}",
            "SIBLING_SERVER: server is a section; give its settings one by one, such as SIBLING_SERVER__HOST.",
        ),
        ("SIBLING_SERVER__PORT__X", "1", "SIBLING_SERVER__PORT: server.port = {'x': '1'} is not allowed; "),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(monkeypatch, variable, value, sentence):
    monkeypatch.setenv(variable, value)
    (told,) = refused()
    assert told.startswith(sentence)


def test_every_problem_is_told_at_once(file, monkeypatch):
    monkeypatch.setenv("SIBLING_LGO__LEVEL", "info")
    assert len(refused(file("[server]\nport = -1\nprot = 1\n[queue]\nslots = 0\n"))) == 4


def test_the_place_told_is_the_one_that_won(file, monkeypatch):
    monkeypatch.setenv("SIBLING_SERVER__PORT", "x")
    assert refused(file("server.port = 'y'"))[0].startswith("SIBLING_SERVER__PORT: server.port = 'x'")


def test_a_wrong_secret_is_refused_without_showing_it(monkeypatch, tmp_path):
    (tmp_path / "server__port").write_text("hunter2")
    monkeypatch.setenv("SIBLING_SECRETS_DIR", str(tmp_path))
    assert refused() == ["server__port: this value is not allowed; write a whole number from 0 to 65535."]


def test_an_unknown_secret_of_a_known_section_is_refused_and_a_stranger_s_is_not(monkeypatch, tmp_path):
    (tmp_path / "database_password").write_text("x")
    monkeypatch.setenv("SIBLING_SECRETS_DIR", str(tmp_path))
    assert load_settings() == Settings()
    (tmp_path / "auth__token_fil").write_text("x")
    assert refused() == ["auth__token_fil: there is no setting auth.token_fil; did you mean auth__token_file?"]


def test_a_file_that_was_named_must_be_there(monkeypatch):
    assert refused(Path("gone.toml")) == ["gone.toml: there is no such settings file; write it or name another."]
    monkeypatch.setenv("SIBLING_CONFIG", "gone2.toml")
    assert refused()[0].startswith("gone2.toml: ")


# --- settings that contradict each other


@pytest.mark.parametrize(
    "line",
    [
        "cpus = 65",
        "max_cpus = 1",
        'memory = "257g"',
        'max_memory = "1g"',
        "pids = 40_000",
        "max_pids = 1",
        'shm_size = "9g"',
        'max_shm_size = "1m"',
        'timeout = "2d"',
        'max_timeout = "1m"',
    ],
)
def test_a_default_above_its_maximum_is_refused_whichever_of_the_two_was_given(file, line):
    (told,) = refused(file(f"[builds]\n\n{line}\n"))
    assert told.startswith("s.toml:3: builds.max_")
    assert told.endswith("raise the first or lower the second.")


def test_the_sentence_of_a_contradiction_has_both_values(file):
    (told,) = refused(file('[builds]\nmemory = "512g"'))
    assert told.startswith('s.toml:2: builds.max_memory, "256g", is below ')
    assert 'builds.memory, "512g"; ' in told


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "sibling.example", "127.0.0.1.example"])
def test_an_address_that_others_can_call_needs_a_token_file(file, monkeypatch, host):
    path = file(f'[server]\nhost = "{host}"\n')
    (told,) = refused(path)
    assert told.startswith(f"s.toml:2: Other machines can call {host}, so auth.token_file is needed")
    monkeypatch.setenv("SIBLING_AUTH__TOKEN_FILE", "/tokens")
    assert load_settings(path).server.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_none(host):
    assert Settings(server=ServerSettings(host=host)).auth.token_file is None


@given(st.text())
def test_no_text_but_a_loopback_address_counts_as_one(host):
    assert not is_loopback(host) or host == "localhost" or host.startswith("127.") or ":" in host


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().server.port = 1
