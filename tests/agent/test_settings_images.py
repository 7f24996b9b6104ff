"""What is set for images, registries and grants; what makes no sense is refused with its line."""

import os

import pytest

from agent.settings import BuildSettings, ImageSettings, Settings, load_settings

NAMES = "write up to 63 lower-case letters, digits or `-`, the first a letter or digit."
HOST = "write a host, and its port if it has one: `docker.io` or `registry.example:5000`."


def test_at_first_any_base_is_allowed_nothing_is_added_from_afar_and_nobody_may_push():
    settings = Settings()
    assert settings.images.allowed_bases == ["**"]
    assert settings.images.allow_remote_add is False
    assert settings.registries == {}
    assert settings.grants == {}


@pytest.mark.parametrize("cpus", [1, 64, 6000])
def test_by_default_each_cpu_has_an_image_build(monkeypatch, cpus):
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert ImageSettings().slots == min(cpus, 1000)


def test_a_step_gets_what_a_build_gets():
    for name in ("cpus", "max_cpus", "memory", "max_memory", "timeout", "max_timeout"):
        assert getattr(ImageSettings(), name) == getattr(BuildSettings(), name)


def test_settings_of_images(load):
    images = load(
        "[images]\nslots = 3\nallowed_bases = ['python:3.*', 'registry.example:5000/**']\nallow_remote_add = false\n"
        "pull = 'always'\nmax_size = '1g'\nkeep = '12h'\ncgroup_parent = 'images.slice'\nbuildx = '/bin/buildx'"
    ).images
    assert (images.slots, images.allowed_bases) == (3, ["python:3.*", "registry.example:5000/**"])
    assert (images.allow_remote_add, images.pull, images.max_size, images.keep) == (False, "always", 1024**3, 43200)
    assert (images.cgroup_parent, str(images.buildx)) == ("images.slice", "/bin/buildx")


def test_variables_give_lists_and_truth_values(load, monkeypatch):
    load("")  # takes away what others set
    monkeypatch.setenv("SIBLING_IMAGES__ALLOWED_BASES", "python, node:*")
    monkeypatch.setenv("SIBLING_IMAGES__ALLOW_REMOTE_ADD", "false")
    images = load_settings().images
    assert (images.allowed_bases, images.allow_remote_add) == (["python", "node:*"], False)


def test_a_registry_is_called_what_references_call_it(load):
    text = (
        "[registries.hub]\nhost = 'index.docker.io'\nmirror = 'Mirror.Example:5000/hub'\n"
        "[registries.team]\nhost = 'Registry.Example'\nusername = 'ci'\npassword_file = '/run/password'\n"
        "[registries.team-tls]\nhost = 'registry.example:443'\ncredential_helper = 'ecr-login'\ninsecure = true\n"
    )
    registries = load(text).registries
    assert [table.host for table in registries.values()] == ["docker.io", "registry.example", "registry.example:443"]
    assert registries["hub"].mirror == "mirror.example:5000/hub"
    assert registries["team-tls"].insecure is True


def test_a_grant(load):
    grant = load("[grants.a]\njobs = ['team-a/**', 'Team B/app']\npush = ['registry.example/team-a/**']").grants["a"]
    assert (grant.jobs, grant.tokens) == (["team-a/**", "Team B/app"], [])
    assert grant.push == ["registry.example/team-a/**"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[images]\nbuilder = 'kaniko'", "sibling.toml:2: images.builder = 'kaniko' is not allowed; write `engine`."),
        (
            "[images]\nallow_remote_add = 'perhaps'",
            "sibling.toml:2: images.allow_remote_add = 'perhaps' is not allowed; write `true` or `false`.",
        ),
        ("[images]\nslots = true", "sibling.toml:2: images.slots = True is not allowed; write a whole number from 1"),
        (
            "[images]\nallowed_bases = ['python@sha256:a']",
            "sibling.toml:2: images.allowed_bases = 'python@sha256:a' is not allowed; write a list of patterns;",
        ),
        ("[images]\nallowed_bases = ['']", "sibling.toml:2: images.allowed_bases = '' is not allowed; write a list of"),
        (
            "[images]\nmemory = '2g'\nmax_memory = '1g'",
            'sibling.toml:3: images.max_memory, "1g", is below what a build gets that asks for none, images.memory, ',
        ),
        (
            "[registries.Hub]\nhost = 'docker.io'",
            f"sibling.toml:1: registries.Hub has a name that is not allowed; {NAMES}",
        ),
        ("[registries.hub]\nusername = 'ci'", f"sibling.toml:1: registries.hub.host is missing; {HOST}"),
        (
            "[registries.hub]\nhost = 'https://docker.io'",
            f"sibling.toml:2: registries.hub.host = 'https://docker.io' is not allowed; {HOST}",
        ),
        ("[registries.hub]\nhost = 'hub'", f"sibling.toml:2: registries.hub.host = 'hub' is not allowed; {HOST}"),
        (
            "[registries.a]\nhost = 'Docker.io'\n[registries.b]\nhost = 'index.docker.io'",
            "sibling.toml:4: registries.a is for docker.io already; one registry takes one table.",
        ),
        (
            "[registries.a]\nhost = 'a.b'\nusername = 'ci'",
            "sibling.toml:3: registries.a.username is given without registries.a.password_file; a login needs both.",
        ),
        (
            "[registries.a]\nhost = 'a.b'\npassword_file = 'p'",
            "sibling.toml:3: registries.a.password_file is given without registries.a.username; a login needs both.",
        ),
        (
            "[registries.a]\nhost = 'a.b'\nusername = 'ci'\npassword_file = 'p'\ncredential_helper = 'x'",
            "sibling.toml:5: registries.a.credential_helper tells the login, so leave out registries.a.username and ",
        ),
        (
            "[registries.a]\nhost = 'a.b'\ncredential_helper = '../x'",
            "sibling.toml:3: registries.a.credential_helper = '../x' is not allowed; write lower-case letters, digits",
        ),
        (
            "[registries.a]\nhost = 'a.b'\nmirror = 'https://c.d'",
            "sibling.toml:3: registries.a.mirror = 'https://c.d' is not allowed; write a host, and a path if need be:",
        ),
        (
            "[registries.a]\nhost = 'a.b'\nmirror = 'c.d/x:1'",
            "sibling.toml:3: registries.a.mirror = 'c.d/x:1' is not allowed; write a host, and a path if need be:",
        ),
        (
            "[registries.a]\nhost = 'a.b'\nmirror = 'a.b/x'",
            "sibling.toml:3: registries.a.mirror, a.b/x, is on a.b, which is not asked itself, as it has a mirror,",
        ),
        (
            "[grants.a]\ntokens = ['ci']",
            "sibling.toml:2: grants.a grants nothing; give grants.a.push or grants.a.docker.",
        ),
        ("[grants.a]\npush = ['**']", "sibling.toml:2: grants.a is for nobody; give grants.a.jobs or grants.a.tokens."),
        (
            "[grants.a]\ntokens = ['ci']\npush = []",
            "sibling.toml:2: grants.a grants nothing; give grants.a.push or grants.a.docker.",
        ),
        (
            "[grants.a]\ntokens = ['ci']\ndocker = ['all']",
            "sibling.toml:3: grants.a.docker = 'all' is not allowed; write a list of ",
        ),
        (
            "[grants.a]\njobs = ['/team']\npush = ['**']",
            "sibling.toml:2: grants.a.jobs = '/team' is not allowed; write a list of patterns of jobs' full names,",
        ),
        (
            "[grants.a]\ntokens = ['job:team/app']\npush = ['**']",
            "sibling.toml:2: grants.a.tokens = 'job:team/app' is not allowed; write a list of patterns of tokens'",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line_and_the_cure(refused, text, sentence):
    (told,) = refused(text)
    assert told[told.index("sibling.toml:") :].startswith(sentence)
