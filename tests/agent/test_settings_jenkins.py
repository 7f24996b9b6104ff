"""The settings of the connection to a controller are whole and usable, or refused."""

import pytest
from pydantic import ValidationError

from agent.settings import JenkinsSettings, Settings

NAME = "write up to 63 letters, digits, `.` or `-`, the first a letter or digit."
ADDRESS = "write an http or https URL without credentials, such as `https://jenkins.example.com/`."


def test_without_a_url_there_is_no_controller():
    assert Settings().jenkins == JenkinsSettings()
    assert Settings().jenkins.url is None


def test_all_of_it_may_come_from_variables(load, monkeypatch):
    monkeypatch.setenv("SIBLING_JENKINS__URL", "http://localhost:8080")
    monkeypatch.setenv("SIBLING_JENKINS__USER", "o'brien smith")
    monkeypatch.setenv("SIBLING_JENKINS__TOKEN_FILE", "/t")
    monkeypatch.setenv("SIBLING_JENKINS__HEAP", "128m")
    jenkins = load("").jenkins
    assert (jenkins.url, jenkins.user, jenkins.heap) == ("http://localhost:8080/", "o'brien smith", 128 * 1024**2)


@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("http://jenkins", "http://jenkins/"),
        ("https://jenkins.example/ci//", "https://jenkins.example/ci/"),
        ("http://[::1]:8080/", "http://[::1]:8080/"),
    ],
)
def test_a_url_ends_in_one_slash(url, normalised):
    jenkins = JenkinsSettings(url=url, user="u", token_file="t", agent_url=url)
    assert jenkins.url == jenkins.agent_url == normalised


@pytest.mark.parametrize(
    "url",
    [
        "",
        "jenkins.example",
        "ftp://jenkins.example/",
        "http://",
        "http:///ci",
        "http://a b/",
        "http://a/?q",
        "http://a/#f",
        "http://a:x/",
        "http://a:0/",
        "http://a:70000/",
        "http://[::1/",
        "http://a\\b",
    ],
)
@pytest.mark.parametrize("name", ["url", "agent_url"])
def test_what_is_no_url_is_refused(refused, name, url):
    assert refused(f"[jenkins]\n\n{name} = '{url}'") == [
        f"sibling.toml:3: jenkins.{name} = {url!r} is not allowed; {ADDRESS}"
    ]


@pytest.mark.parametrize("url", ["https://me:hunter2@jenkins.example/", "ftp://me:hunter2@[x", "https:me:hunter/2@x"])
def test_credentials_in_a_url_are_refused_without_showing_them(refused, url):
    (told,) = refused(f"[jenkins]\nurl = '{url}'")
    assert told == (
        "sibling.toml:2: jenkins.url holds an @, as if for credentials; leave them out, they are given by jenkins.user "
        "and jenkins.token_file."
    )


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("url = 'http://j'", "jenkins.url is given without jenkins.user and jenkins.token_file"),
        ("user = 'u'", "jenkins.user is given without jenkins.url and jenkins.token_file"),
        ("token_file = 't'", "jenkins.token_file is given without jenkins.url and jenkins.user"),
        ("token_file = 't'\nuser = 'u'", "jenkins.user and jenkins.token_file are given without jenkins.url"),
        ("token_file = 't'\nurl = 'http://j'", "jenkins.url and jenkins.token_file are given without jenkins.user"),
    ],
)
def test_url_user_and_token_come_together(refused, lines, sentence):
    (told,) = refused(f"[jenkins]\n{lines}")
    assert told == f"sibling.toml:{1 + len(lines.splitlines())}: {sentence}; a controller needs all three."


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("user = ''", "jenkins.user = '' is not allowed; write a user's id: text that is not empty, without `:`."),
        (
            "user = 'a:b'",
            "jenkins.user = 'a:b' is not allowed; write a user's id: text that is not empty, without `:`.",
        ),
        ("network = ''", "jenkins.network = '' is not allowed; write text that is not empty."),
        ("heap = '2m'", "jenkins.heap = '2m' is not allowed; write a size above 2m up to 8192t, such as `512m`."),
        ("poll = 0", "jenkins.poll = 0 is not allowed; write a duration above 0 up to 30d, such as `90s` or `1h30m`."),
        (
            "lease = '59s'",
            "jenkins.lease = '59s' is not allowed; write a duration from 1m to 30d, such as `90s` or `1h30m`.",
        ),
        ("attempts = 101", "jenkins.attempts = 101 is not allowed; write a whole number from 1 to 100."),
        ("name = '-a'", f"jenkins.name = '-a' is not allowed; {NAME}"),
        ("tokenfile = 't'", "there is no setting jenkins.tokenfile; did you mean jenkins.token_file?"),
    ],
)
def test_a_wrong_one_is_refused_with_what_is_allowed(refused, line, sentence):
    assert refused(f"[jenkins]\n{line}") == [f"sibling.toml:2: {sentence}"]


def test_a_name_has_at_most_63_characters():
    assert JenkinsSettings(name=f"{'a.B-' * 15}abc").name
    with pytest.raises(ValidationError):
        JenkinsSettings(name="a" * 64)
