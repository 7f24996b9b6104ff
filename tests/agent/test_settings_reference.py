"""What the docs and the sentences say of a setting is what may be written for it."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.settings import BuildSettings, JenkinsSettings, QueueSettings, Settings, TemplateSettings
from agent.settings.names import find, names
from agent.settings.reference import allowed, page, written

# What must be given for there to be a table.
TABLES = (
    "templates.t.image = 'x'\noidc.t.issuer = 'https://jenkins/oidc'\noidc.t.audience = 'sibling'\n"
    "registries.t.host = 'registry.example'\ngrants.t.push = ['**']\ngrants.t.tokens = ['*']\n"
    "hooks.t.image = 'x'\nhooks.t.argv = ['x']"
)


def read(text):
    return Settings(**tomllib.loads(text))


@given(st.integers(1, 2**53), st.integers(1, 30 * 86400))
def test_what_is_written_reads_back_as_the_same(size, seconds):
    fields = BuildSettings.model_fields
    builds = read(
        f"[builds]\ntimeout = 1\ntmp_size = {written(size, fields['tmp_size'])}\n"
        f"max_timeout = {written(float(seconds), fields['max_timeout'])}\n"
    ).builds
    assert (builds.tmp_size, builds.max_timeout) == (size, seconds)


@given(st.integers(2 * 1024**2 + 1, 2**53))
def test_so_does_what_is_written_of_a_setting_that_may_be_absent(size):
    text = written(size, JenkinsSettings.model_fields["heap"])
    assert read(f"jenkins.heap = {text}").jenkins.heap == size


def test_every_default_is_allowed_as_it_is_written():
    fields = {name: find(Settings, name) for name in names(Settings, "t") if len(name) > 1}
    lines = [
        f"{'.'.join(name)} = {written(field.default, field)}"
        for name, field in fields.items()
        if field.default is not None and field.default_factory is None and ".".join(name) not in TABLES
    ]
    assert "templates.t.env = {}" in lines
    assert read("\n".join([TABLES, *lines])) == read(TABLES)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (QueueSettings.model_fields["max_queued"], "a whole number of at least 1"),
        (JenkinsSettings.model_fields["heap"], "a size above 2m up to 8192t, such as `512m`"),
        (TemplateSettings.model_fields["memory"], "a size from 6m to 8192t, such as `512m`"),
        (TemplateSettings.model_fields["cpus"], "a number from 0.01 to 1024"),
        (TemplateSettings.model_fields["cap"], "a whole number of at least 1"),
    ],
)
def test_the_words_have_the_bounds_that_there_are(field, words):
    assert allowed(field) == words


def test_each_setting_of_a_template_has_a_row_without_a_variable():
    rows = [line for line in page(Settings).splitlines() if line.startswith("| `templates.")]
    for (name, field), row in zip(TemplateSettings.model_fields.items(), rows, strict=True):
        assert row.startswith(f"| `templates.NAME.{name}` | - | ")
        assert row.endswith(f" | {allowed(field).replace('|', chr(92) + '|')} | {field.description} |")
