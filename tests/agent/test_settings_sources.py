"""The line that is told for a setting is the line at which it stands, however the file is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidSettings
from agent.settings import Settings
from agent.settings.sources import SecretFiles, SettingsFile

# Statements that might be taken for the one that is sought, or end where it does not seem so.
NOISE = [
    "# server.port = 1",
    "",
    '[log]\nlevel = "port = 1"',
    'x.text = """\n[server]\nport = 1\n"""',
    "y.text = '''\nport = 2'''",
    "z.list = [\n  1, # ]\n  2\n]",
    "[sources]\nport = 3\r",
    '["server.port"]\nport = 4',
]
WAYS = [
    "server.port = 1",
    '"server"."port" = 1',
    "server = { port = 1 }",
    "[server]\nport = 1",
    "[server]\nhost = '''\n'''\nport = 1",
]


@given(st.permutations(NOISE), st.sampled_from(WAYS), st.integers(0, len(NOISE)))
def test_the_line_is_found_among_look_alikes(tmp_path_factory, noise, way, at):
    # Dotted keys belong to the file's top, so what comes before them must be of no table.
    before = [statement for statement in noise[:at] if not statement.startswith("[")] if way[0] != "[" else noise[:at]
    text = "\n".join([*before, way, ""])
    path = tmp_path_factory.mktemp("s") / "s.toml"
    path.write_bytes(text.encode())
    line = next(number for number in range(text.count("\n"), 0, -1) if "port" in text.split("\n")[number - 1])
    assert SettingsFile(path).at(("server", "port")) == f"{path}:{line}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[templates.a]\nimage = '1'\n[templates.b-c]\n\nimage = '2'", 5),
        ("templates.a.image = '1'\ntemplates.b-c.image = '2'", 2),
        ("[templates]\na = { image = '1' }\nb-c = { image = '2' }", 3),
        ("[templates.b-c.env]\nimage = 'x'\n[templates.b-c]\nimage = '2'", 4),
    ],
)
def test_the_line_of_a_setting_in_a_table_of_a_section_is_found(tmp_path, text, line):
    (tmp_path / "s.toml").write_text(text)
    assert SettingsFile(tmp_path / "s.toml").at(("templates", "b-c", "image")) == f"{tmp_path}/s.toml:{line}"


def test_a_section_is_at_its_header(tmp_path):
    (tmp_path / "s.toml").write_text("[log]\n\n[server]\nport = 1\n")
    assert SettingsFile(tmp_path / "s.toml").at(("server",)) == f"{tmp_path}/s.toml:3"


def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path):
    (tmp_path / "s.toml").write_bytes(b"[log]\n# caf\xe9\n")
    with pytest.raises(InvalidSettings, match=r"s\.toml:2: this is not UTF-8; save the file as UTF-8\."):
        SettingsFile(tmp_path / "s.toml")


def test_a_folder_is_no_settings_file(tmp_path):
    with pytest.raises(InvalidSettings, match="cannot be read: Is a directory"):
        SettingsFile(tmp_path)


def test_a_missing_folder_of_secrets_is_refused(tmp_path):
    with pytest.raises(InvalidSettings, match=r"SIBLING_SECRETS_DIR=.*gone: the secret files cannot be read"):
        SecretFiles(Settings, tmp_path / "gone")


def test_a_secret_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "server__port").write_bytes(b"\xff")
    with pytest.raises(InvalidSettings, match="cannot be read"):
        SecretFiles(Settings, tmp_path)


def test_secrets_are_found_as_kubernetes_mounts_them(tmp_path):
    """Each name is a link into a dated folder, which is swapped as a whole."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "server__port").write_text("7\n")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "server__port").symlink_to("..data/server__port")
    assert SecretFiles(Settings, tmp_path).values == {"server": {"port": "7"}}
