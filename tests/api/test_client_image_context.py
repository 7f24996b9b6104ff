"""PATH and --file of `sibling image build`: what is sent of them, and what is refused before anything is."""

from __future__ import annotations

import io
import os
import socket
import tarfile

import pytest

from api.client import address
from api.client.command import default_url
from api.client.image_context import context_of
from tests.api.image_steps import posted, run_image
from tests.fakes.build_server import SOURCE_ID

ELSEWHERE = address.parse("http://sibling.example")
OWN = address.parse("unix:///run/sibling/api.sock")
UPLOADED = {"type": "uploaded", "id": SOURCE_ID}


@pytest.fixture
def tree(tmp_path):
    """A folder with Dockerfiles, and one beside it."""
    for name in ("app/Dockerfile", "app/sub/Other", "app/src/a.py", "app/secret.pem", "beside/Dockerfile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("FROM scratch\n")
    return tmp_path


def in_workspace(tree, path, file=None):
    return context_of(str(path), file and str(file), OWN, workspace=str(tree)).fields


def uploaded(server):
    with tarfile.open(fileobj=io.BytesIO(server.wait_for("PUT", "/v1/sources")[0].body)) as archive:
        return set(archive.getnames())


def test_a_folder_is_uploaded_after_its_dockerignore_and_the_dockerfile_goes_along(tree):
    (tree / "app" / ".dockerignore").write_text("*.pem\nDockerfile\n.dockerignore\nsub\n")
    ended, server = run_image("build", "--no-source-labels", str(tree / "app"))
    assert ended.returncode == 0
    assert uploaded(server) == {"Dockerfile", ".dockerignore", "src", "src/a.py"}
    assert posted(server) == {"context": UPLOADED, "dockerfile": "Dockerfile", "progress": "plain"}


def test_another_dockerfile_goes_along_with_its_own_dockerignore_first(tree):
    (tree / "app" / ".dockerignore").write_text("src\n")
    (tree / "app" / "sub" / "Other.dockerignore").write_text("*\n")
    _, server = run_image("build", "-f", str(tree / "app" / "sub" / "Other"), str(tree / "app"))
    assert uploaded(server) == {".dockerignore", "sub", "sub/Other", "sub/Other.dockerignore"}
    assert posted(server)["dockerfile"] == "sub/Other"


def test_file_is_relative_to_where_the_person_is(tree):
    _, server = run_image("build", "-f", "sub/Other", "..", cwd=tree / "app" / "sub" / "..")
    assert posted(server)["dockerfile"] == "app/sub/Other"


def test_a_dockerfile_outside_of_the_context_is_sent_as_text(tree):
    _, server = run_image("build", "-f", str(tree / "beside" / "Dockerfile"), str(tree / "app"))
    request = posted(server)
    assert request["dockerfile_text"] == "FROM scratch\n"
    assert "dockerfile" not in request


def test_the_dockerignore_of_a_dockerfile_outside_is_the_only_one(tree):
    (tree / "app" / ".dockerignore").write_text("src\n")
    (tree / "beside" / "Dockerfile.dockerignore").write_text("*\n!src\n")
    _, server = run_image("build", "-f", str(tree / "beside" / "Dockerfile"), str(tree / "app"))
    assert uploaded(server) == {"src", "src/a.py"}


def test_a_dockerfile_that_is_a_link_or_a_pipe_is_sent_as_text(tree):
    (tree / "app" / "Link").symlink_to("Dockerfile")
    link = context_of(str(tree / "app"), str(tree / "app" / "Link"), ELSEWHERE)
    reading, writing = os.pipe()
    os.write(writing, b"FROM busybox\n")
    os.close(writing)
    pipe = context_of(str(tree / "app"), f"/dev/fd/{reading}", ELSEWHERE)  # as a shell has it for <(...)
    os.close(reading)
    assert link.fields == {"dockerfile_text": "FROM scratch\n"}
    assert pipe.fields == {"dockerfile_text": "FROM busybox\n"}


def test_without_a_dockerfile_docker_takes_one_in_lower_case(tree):
    (tree / "app" / "Dockerfile").rename(tree / "app" / "dockerfile")
    assert context_of(str(tree / "app"), None, ELSEWHERE).fields == {"dockerfile": "dockerfile"}


def test_a_folder_of_the_own_workspace_is_named_and_nothing_of_it_is_read(tree):
    (tree / "app" / ".dockerignore").write_text("[")  # what it means is the service's business then
    context = {"type": "workspace", "path": "app"}
    assert in_workspace(tree, tree / "app") == {"context": context, "dockerfile": "Dockerfile"}
    assert in_workspace(tree / "app", tree / "app")["context"]["path"] == "."
    assert in_workspace(tree, tree / "app", tree / "app" / "sub" / "Other")["dockerfile"] == "sub/Other"
    assert in_workspace(tree, tree / "app", tree / "beside" / "Dockerfile") == {
        "context": context,
        "dockerfile_text": "FROM scratch\n",
    }


def test_the_path_in_the_workspace_holds_no_links(tree):
    (tree / "link").symlink_to("app")
    assert in_workspace(tree, tree / "link" / "sub" / "..")["context"]["path"] == "app"


def test_a_folder_outside_of_the_workspace_is_uploaded_through_the_own_socket_too(tree):
    (tree / "app" / "out").symlink_to(tree / "beside")
    assert "context" not in in_workspace(tree / "app", tree / "beside")
    assert "context" not in in_workspace(tree / "app", tree / "app" / "out")


def test_the_workspace_is_uploaded_if_a_dockerignore_outside_decides_what_of_it(tree):
    (tree / "beside" / "Dockerfile.dockerignore").write_text("src\n")
    assert "context" not in in_workspace(tree, tree / "app", tree / "beside" / "Dockerfile")


def test_another_service_knows_nothing_of_the_workspace(tree):
    for url in ("http://sibling.example", "unix:///run/other.sock"):
        context = context_of(str(tree / "app"), None, address.parse(url), workspace=str(tree))
        assert context.fields == {"dockerfile": "Dockerfile"}


def test_the_own_socket_is_the_service_where_there_is_one(tmp_path):
    assert default_url(str(tmp_path / "api.sock")) == address.DEFAULT_URL
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "api.sock"))
        assert default_url(str(tmp_path / "api.sock")) == f"unix://{tmp_path}/api.sock"


def test_a_dockerfile_on_standard_input_needs_no_files(tree):
    (tree / "in").write_text("FROM busybox\n")
    with (tree / "in").open("rb") as stdin:
        _, server = run_image("build", "--no-source-labels", "-", stdin=stdin)
    assert posted(server) == {"dockerfile_text": "FROM busybox\n", "progress": "plain"}
    assert [asked.method for asked in server.asked] == ["POST", "GET", "GET"]


def test_a_dockerfile_on_standard_input_may_have_a_context(tree):
    (tree / "in").write_text("FROM busybox\n")
    with (tree / "in").open("rb") as stdin:
        _, server = run_image("build", "-f", "-", str(tree / "app"), stdin=stdin)
    request = posted(server)
    assert (request["dockerfile_text"], request["context"]) == ("FROM busybox\n", UPLOADED)


@pytest.mark.parametrize(
    ("url", "fields"),
    [
        ("https://h.example/x.git", {"context": {"type": "git", "url": "https://h.example/x.git"}}),
        ("https://h.example/x.git#v1", {"context": {"type": "git", "url": "https://h.example/x.git", "ref": "v1"}}),
        (
            "https://h.example/x.git#v1:docker/app",
            {"context": {"type": "git", "url": "https://h.example/x.git", "ref": "v1"}, "context_dir": "docker/app"},
        ),
        ("git://h/x#:d/", {"context": {"type": "git", "url": "git://h/x"}, "context_dir": "d"}),
        ("ssh://git@h/x.git", {"context": {"type": "git", "url": "ssh://git@h/x.git"}}),
        (
            "git@h.example:team/x.git#b",
            {"context": {"type": "git", "url": "ssh://git@h.example/team/x.git", "ref": "b"}},
        ),
    ],
)
def test_a_git_url_is_fetched_by_the_service(url, fields):
    assert context_of(url, None, ELSEWHERE).fields == fields
    assert context_of(url, "docker/Other", ELSEWHERE).fields == {**fields, "dockerfile": "docker/Other"}


def test_the_token_for_a_git_url_is_the_secret_that_docker_takes_for_it():
    url = "https://h.example/x.git"
    env = {**os.environ, "GIT_AUTH_TOKEN": "t0ken"}
    _, server = run_image("build", "--secret", "id=GIT_AUTH_TOKEN", url, env=env)
    assert posted(server)["context"] == {
        "type": "git", "url": url, "username": "x-access-token", "password": "t0ken",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "file", "sentence"),
    [
        ("none", None, "none is not a folder"),
        ("app/Dockerfile", None, "is not a folder"),
        ("app/src", None, "There is no Dockerfile app/src/Dockerfile. Name it with --file"),
        ("app", "Dockerfile", "There is no Dockerfile Dockerfile. --file is relative to where you are"),
        ("app", "app", "There is no Dockerfile app"),
        ("app", "binary", "binary is not text"),
        ("app", "empty", "empty is empty"),
        ("app", "archive.tar.gz", "is an archive"),
        ("-", "Dockerfile", "leave out --file"),
        ("https://me:pw@h.example/x.git", None, "GIT_AUTH_TOKEN"),
        ("broken", None, "is not a pattern"),
    ],
)
def test_what_cannot_be_built_is_told_before_anything_is_sent(tree, path, file, sentence):
    (tree / "binary").write_bytes(b"\xff\xfe")
    (tree / "empty").write_text(" \n")
    (tree / "archive.tar.gz").write_bytes(b"\x1f\x8b\x08")
    (tree / "broken").mkdir()
    (tree / "broken" / "Dockerfile").write_text("FROM scratch\n")
    (tree / "broken" / ".dockerignore").write_text("[")
    ended, server = run_image("build", *(("-f", file) if file else ()), path, cwd=tree)
    assert ended.returncode == 125
    assert sentence in ended.stderr.decode()
    assert b"pw" not in ended.stderr
    assert server.asked == []


@pytest.mark.parametrize("data", [b"\x1f\x8b\x08", b"x" * 257 + b"ustar" + b"\0" * 250, b"a" * (1024**2 + 1), b""])
def test_standard_input_that_is_no_dockerfile_is_told(tmp_path, data):
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as stdin:
        ended, server = run_image("build", "-", stdin=stdin)
    assert ended.returncode == 125
    assert ended.stderr.startswith(b"[sibling] The Dockerfile on standard input ")
    assert server.asked == []
