"""The labels that tell where an image is from: right where they can be, absent where not, never with a password."""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta, timezone

import pytest

from api.client.provenance import without_credentials
from tests.api import client_process
from tests.api.image_steps import posted, run_image

SOURCE, REVISION = "org.opencontainers.image.source", "org.opencontainers.image.revision"
CREATED, BUILD_URL = "org.opencontainers.image.created", "org.jenkins-ci.build-url"


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def folder(tmp_path):
    """A folder with a Dockerfile, below a git repository."""
    folder = tmp_path / "repository" / "docker"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    git(folder, "init", "-q", "..")
    git(folder, "remote", "add", "origin", "https://me:hunter2@git.example/team/app.git")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "m")
    return folder


def environment(**variables):
    env = client_process.environment(**variables)
    return {name: value for name, value in env.items() if name in variables or not name.startswith(("GIT_", "BUILD_"))}


def labels(*options, **variables):
    _, server = run_image("build", *map(str, options), env=environment(**variables))
    return posted(server).get("image_labels", {})


def test_git_tells_repository_and_commit_without_the_password(folder):
    commit = git(folder, "rev-parse", "HEAD")
    assert labels(folder) == {SOURCE: "https://git.example/team/app.git", REVISION: commit}


def test_jenkins_tells_more_than_git(folder):
    jenkins = {"GIT_URL": "https://x:y@jenkins.example/r.git", "GIT_COMMIT": "c" * 40, "BUILD_URL": "http://j/job/a/1/"}
    assert labels(folder, **jenkins) == {
        SOURCE: "https://jenkins.example/r.git", REVISION: "c" * 40, BUILD_URL: "http://j/job/a/1/",
    }  # fmt: skip


def test_the_time_is_told_of_images_that_are_pushed(folder):
    told = labels("--push", "-t", "r.example/a", folder)[CREATED]
    age = datetime.now(timezone.utc) - datetime.fromisoformat(told)  # noqa: UP017 - as the client has it
    assert timedelta(minutes=-1) < age < timedelta(minutes=5)


def test_own_labels_win_and_those_of_the_source_can_be_left_out(folder):
    own = ("--label", f"{REVISION}=mine", "--label", "empty", "--label", "a=b=c")
    assert labels(*own, folder) == {
        SOURCE: "https://git.example/team/app.git", REVISION: "mine", "empty": "", "a": "b=c",
    }  # fmt: skip
    assert labels("--no-source-labels", *own, "--push", "-t", "x", folder, BUILD_URL="u") == {
        REVISION: "mine", "empty": "", "a": "b=c",
    }  # fmt: skip


def test_a_folder_without_a_repository_or_without_git_has_none(tmp_path, folder):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    assert labels(tmp_path) == {}
    assert labels(folder, PATH="/none") == {}


def test_a_git_that_fails_fails_no_build(tmp_path, folder):
    (tmp_path / "git").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "git").chmod(0o755)
    assert labels(folder, PATH=str(tmp_path)) == {}


def test_git_takes_no_locks(tmp_path, folder):
    (tmp_path / "git").write_text('#!/bin/sh\necho "$GIT_OPTIONAL_LOCKS"\n')
    (tmp_path / "git").chmod(0o755)
    assert labels(folder, PATH=str(tmp_path)) == {SOURCE: "0", REVISION: "0"}


def test_a_git_context_is_its_own_source_and_a_commit_its_revision():
    url = "https://git.example/a.git"
    jenkins = {"GIT_URL": "https://other.example", "GIT_COMMIT": "c" * 40}
    assert labels(f"{url}#main", **jenkins) == {SOURCE: url}
    assert labels(f"{url}#{'d' * 40}", **jenkins) == {SOURCE: url, REVISION: "d" * 40}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@host:8443/x.git", "https://host:8443/x.git"),
        ("https://token@host/x", "https://host/x"),
        ("https://a@b:pw@host/x", "https://host/x"),
        ("https://host/x.git?private_token=pw#pw", "https://host/x.git"),
        ("ssh://git:pw@host/x.git", "ssh://git@host/x.git"),
        ("git@host:team/x.git", "git@host:team/x.git"),
        ("/srv/git/x.git", "/srv/git/x.git"),
        ("https://[pw/x", ""),
        ("", ""),
    ],
)
def test_no_address_keeps_its_password(url, shown):
    assert without_credentials(url) == shown
