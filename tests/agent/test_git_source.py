import base64
import os
import subprocess
import threading
import time

import pytest

from agent.errors import InvalidRequest, SourceFailed
from agent.files import git_source
from agent.requests import GitSource
from agent.stop import Stopped
from tests.fakes.git_server import Repository, git_server, processes_in

PASSWORD = "pa ss/w%rd:+&'\"$(touch pwned)`"


@pytest.fixture
def into(tmp_path):
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "served").mkdir()
    return Repository(tmp_path / "served" / "repo.git")


@pytest.fixture
def server(repository):
    with git_server(repository.path.parent) as server:
        yield server


def fetch(
    server, into, ref="HEAD", *, password=None, timeout=60, cancelled=lambda: False, note=lambda _: None, **source
):
    asked = GitSource(url=f"{server.url}/repo.git", ref=ref, **source)
    return git_source.fetch(asked, password, into, timeout=timeout, cancelled=cancelled, note=note)


def git(into, *arguments):
    done = subprocess.run(["git", *arguments], cwd=into, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def everything_in(folder):
    """All bytes of all files, and all names and targets."""
    pieces = []
    for path in folder.rglob("*"):
        pieces.append(os.fsencode(path))
        if path.is_symlink():
            pieces.append(os.fsencode(path.readlink()))
        elif path.is_file():
            pieces.append(path.read_bytes())
    return b"\n".join(pieces)


def gone(folder):
    """Whether no process works in that folder; waits for those that are killed already."""
    for _ in range(500):
        if not processes_in(folder):
            return True
        time.sleep(0.01)
    return False


def shown(password):
    """Every form in which a password must not be seen."""
    return [
        password,
        base64.b64encode(f"git:{password}".encode()).decode(),
        base64.b64encode(password.encode()).decode(),
    ]


@pytest.mark.parametrize(
    "ref", ["HEAD", "main", "refs/heads/main", "v1", "refs/tags/v1", "refs/pull/7/head", "a-id", "a-short"]
)
def test_any_name_of_a_commit_is_fetched(server, repository, into, ref):
    repository.commit_files(file="old")
    commit = repository.commit_files(file="content", other="x")
    repository.git("tag", "-m", "annotated", "v1", commit)
    repository.git("update-ref", "refs/pull/7/head", commit)
    ref = {"a-id": commit, "a-short": commit[:10]}.get(ref, ref)
    assert fetch(server, into, ref) == commit
    assert (into / "file").read_text() == "content"
    assert git(into, "rev-parse", "HEAD") == commit
    assert git(into, "status", "--porcelain") == ""


def test_the_history_is_one_commit_deep(server, repository, into):
    for number in range(5):
        repository.commit_files(file=str(number))
    fetch(server, into, "main")
    assert git(into, "rev-list", "--count", "HEAD") == "1"


def test_a_commit_that_the_server_does_not_hand_out_by_id_is_found_all_the_same(server, repository, into):
    server.hands_out_ids = False
    old = repository.commit_files("side", file="old")
    repository.commit_files("side", file="new")
    repository.commit_files(file="main")
    notes = []
    assert fetch(server, into, old, note=notes.append) == old
    assert (into / "file").read_text() == "old"
    assert any("by its id" in note for note in notes)


def test_a_branch_that_looks_like_a_commit_id_is_a_branch(server, repository, into):
    repository.commit_files(file="main")
    commit = repository.commit_files("deadbeef", file="branch")
    assert fetch(server, into, "deadbeef") == commit


def test_the_build_finds_where_it_came_from(server, repository, into):
    repository.commit_files(file="x")
    fetch(server, into)
    assert git(into, "remote", "get-url", "origin") == f"{server.url}/repo.git"


def test_what_happens_is_noted(server, repository, into):
    commit = repository.commit_files(file="x")
    notes = []
    fetch(server, into, "main", note=notes.append)
    assert notes == [f"fetching main of {server.url}/repo.git", f"the source is at commit {commit}"]


@pytest.mark.parametrize("username", [None, "user", "us er@x"])
def test_the_password_opens_the_repository_and_is_nowhere_else(server, repository, into, username):
    repository.commit_files(file="x")
    server.login = (username or "git", PASSWORD)
    lines, notes = [], []
    server.on_request = lambda: lines.extend(processes_in())
    fetch(server, into, password=PASSWORD, username=username, note=notes.append)
    assert any(b"git" in line and b"fetch" in line for line in lines)
    for form in shown(PASSWORD):
        assert form.encode() not in b"\n".join(lines)
        assert form.encode() not in everything_in(into)
        assert form not in "\n".join(notes)
    assert not (into / "pwned").exists()


def test_a_wrong_password_is_told_without_showing_it(server, repository, into):
    repository.commit_files(file="x")
    server.login = ("git", "another")
    with pytest.raises(
        SourceFailed, match=r"Authentication failed.*check source\.username and source\.password"
    ) as failed:
        fetch(server, into, password=PASSWORD)
    assert not any(form in str(failed.value) for form in shown(PASSWORD))


def test_nobody_is_asked_for_a_password_that_is_missing(server, repository, into):
    repository.commit_files(file="x")
    server.login = ("git", PASSWORD)
    with pytest.raises(SourceFailed, match=r"check source\.username and source\.password"):
        fetch(server, into)
    assert set(server.logins) == {None}


def test_a_server_that_sends_the_password_back_does_not_get_it_shown(server, repository, into):
    basic = base64.b64encode(f"git:{PASSWORD}".encode()).decode()
    server.login = ("git", "another")
    server.refusal = f"you sent {PASSWORD} in {basic}, go away"
    with pytest.raises(SourceFailed, match="go away") as failed:
        fetch(server, into, password=PASSWORD)
    assert not any(form in str(failed.value) for form in shown(PASSWORD))


def test_a_server_that_sends_us_elsewhere_does_not_get_the_password_sent_there(server, repository, into):
    repository.commit_files(file="x")
    with git_server(repository.path.parent) as elsewhere:
        elsewhere.login = ("git", PASSWORD)
        server.redirects_to = elsewhere.url
        with pytest.raises(SourceFailed):
            fetch(server, into, password=PASSWORD)
        assert elsewhere.logins
        assert set(elsewhere.logins) == {None}


@pytest.mark.parametrize(("username", "password"), [("git", "a\nhost=elsewhere"), ("a\npassword=b", "x")])
def test_a_line_break_in_a_login_is_refused(server, into, username, password):
    with pytest.raises(SourceFailed, match="line break"):
        fetch(server, into, username=username, password=password)
    assert server.logins == []


@pytest.mark.parametrize(
    ("ref", "words"),
    [("missing", "check the ref"), ("0" * 40, "check the ref"), ("abcdef1", "check the ref")],
)
def test_a_ref_that_is_not_there_is_told(server, repository, into, ref, words):
    repository.commit_files(file="x")
    with pytest.raises(SourceFailed, match=words) as failed:
        fetch(server, into, ref)
    assert ref in str(failed.value)


def test_a_repository_that_is_not_there_is_told(server, into, repository):
    with pytest.raises(SourceFailed, match=r"not found.*check the URL"):
        git_source.fetch(
            GitSource(url=f"{server.url}/missing.git"), None, into, timeout=60, cancelled=bool, note=lambda _: None
        )


def test_a_host_that_does_not_answer_is_told(into, server):
    server.server_close()
    with pytest.raises(SourceFailed, match=r"check the URL, and that the service's machine reaches it"):
        fetch(server, into)


def test_a_cancel_ends_it_at_once_and_leaves_no_process(server, repository, into):
    server.hangs = True
    with pytest.raises(Stopped):
        fetch(server, into, cancelled=server.asked.is_set)
    assert gone(into)
    assert server.left.wait(30)


def test_a_timeout_ends_it_and_leaves_no_process(server, repository, into):
    server.hangs = True
    with pytest.raises(SourceFailed, match=r"took over 0\.5 s, which is sources\.git_timeout"):
        fetch(server, into, timeout=0.5)
    assert gone(into)


def test_two_at_once_do_not_meet(server, repository, tmp_path):
    commit = repository.commit_files(file="x")
    found = []
    threads = []
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        threads.append(
            threading.Thread(target=lambda into: found.append(fetch(server, into)), args=[tmp_path / str(number)])
        )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [commit] * 4


def test_a_server_that_talks_without_end_is_cut_short(server, repository, into, tmp_path):
    hook = tmp_path / "hook"
    hook.write_text(
        "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' 'x' >&2\nprintf '\\033[31mlast words\\n' >&2\nexit 1\n"
    )
    hook.chmod(0o755)
    server.settings = {"uploadpack.packObjectsHook": str(hook)}
    repository.commit_files(file="x")
    with pytest.raises(SourceFailed) as failed:
        fetch(server, into)
    assert len(str(failed.value)) < 2000
    assert str(failed.value).isprintable()


def evil(tmp_path):
    """A program that leaves a trace when anyone runs it."""
    program = tmp_path / "evil"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/pwned\ncat\n")
    program.chmod(0o755)
    return program


def test_nothing_in_a_repository_runs(server, repository, into, tmp_path):
    program = evil(tmp_path)
    config = f"""
[core]
    fsmonitor = {program}
    hooksPath = hooks
    sshCommand = {program}
[filter "evil"]
    smudge = {program}
    clean = {program}
    process = {program}
[alias]
    checkout = !{program}
"""
    script = repository.blob(program.read_bytes())
    hooks = repository.tree(
        *(("100755", name, script) for name in ("post-checkout", "post-merge", "reference-transaction"))
    )
    bare = repository.tree(
        ("100644", "HEAD", repository.blob(b"ref: refs/heads/main\n")),
        ("100644", "config", repository.blob(config.encode())),
        ("40000", "hooks", hooks),
        ("40000", "objects", repository.tree(("100644", "x", script))),
        ("40000", "refs", repository.tree(("100644", "x", script))),
    )
    modules = f'[submodule "s"]\n\tpath = s\n\turl = ext::{program}\n\tupdate = !{program}\n'
    repository.commit(
        repository.tree(
            ("100644", ".gitattributes", repository.blob(b"* filter=evil diff=evil merge=evil\n*.bin filter=lfs\n")),
            ("100644", ".gitconfig", repository.blob(config.encode())),
            ("100644", ".gitmodules", repository.blob(modules.encode())),
            ("100644", ".lfsconfig", repository.blob(b"[lfs]\n\turl = http://127.0.0.1:1/\n")),
            ("40000", "bare.git", bare),
            ("100644", "file.bin", repository.blob(b"content")),
            ("40000", "hooks", hooks),
            ("160000", "s", "1" * 40),
        )
    )
    fetch(server, into)
    assert (into / "file.bin").read_bytes() == b"content"
    assert not (tmp_path / "pwned").exists()


def test_the_services_own_git_configuration_is_not_used(server, repository, into, tmp_path, monkeypatch):
    program = evil(tmp_path)
    home = tmp_path / "home"
    config = (
        f'[filter "evil"]\n\tsmudge = {program}\n[core]\n\thooksPath = {tmp_path}\n\tfsmonitor = {program}\n'
        f'[credential]\n\thelper = "!{program}"\n[url "http://127.0.0.1:1/"]\n\tinsteadOf = http://127.0.0.1\n'
    )
    for place in (home / ".gitconfig", home / "xdg" / "git" / "config"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(config)
    (home / ".netrc").write_text("machine 127.0.0.1 login git password ambient\n")
    (tmp_path / "post-checkout").symlink_to(program)
    template = tmp_path / "template"
    (template / "hooks").mkdir(parents=True)
    (template / "hooks" / "post-checkout").symlink_to(program)
    settings = {
        "HOME": home,
        "XDG_CONFIG_HOME": home / "xdg",
        "GIT_TEMPLATE_DIR": template,
        "GIT_ASKPASS": program,
        "SSH_ASKPASS": program,
        "GIT_DIR": tmp_path / "elsewhere",
        "GIT_WORK_TREE": tmp_path,
        "GIT_TRACE": tmp_path / "trace",
        "GIT_CONFIG_COUNT": 1,
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": program,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    repository.commit(
        repository.tree(
            ("100644", ".gitattributes", repository.blob(b"* filter=evil\n")),
            ("100644", "file", repository.blob(b"content")),
        )
    )
    fetch(server, into)
    server.login = ("git", "ambient")
    (tmp_path / "second").mkdir()
    with pytest.raises(SourceFailed, match=r"check source\.username"):
        fetch(server, tmp_path / "second")
    assert (into / "file").read_bytes() == b"content"
    assert set(server.logins) == {None}
    for left in ("pwned", "trace", "elsewhere"):
        assert not (tmp_path / left).exists()


@pytest.mark.parametrize("name", [".git", ".GIT", ".Git", "git~1", ".g\u200cit", "..", ".", "../outside/x"])
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_tree_that_reaches_for_git_or_out_of_the_folder_is_refused(server, repository, into, tmp_path, name, kind):
    (tmp_path / "outside").mkdir()
    script = repository.blob(evil(tmp_path).read_bytes())
    hooks = repository.tree(("40000", "hooks", repository.tree(("100755", "post-checkout", script))))
    link = repository.blob(str(tmp_path / "outside").encode())
    repository.commit(repository.tree(("40000", name, hooks) if kind == "folder" else ("120000", name, link)))
    with pytest.raises(SourceFailed):
        fetch(server, into)
    assert list((tmp_path / "outside").iterdir()) == []
    assert not (tmp_path / "pwned").exists()
    assert not (into / ".git").is_symlink()


def test_a_tree_that_writes_through_its_own_link_stays_inside(server, repository, into, tmp_path):
    (tmp_path / "outside").mkdir()
    link = repository.blob(str(tmp_path / "outside").encode())
    folder = repository.tree(("100644", "file", repository.blob(b"x")))
    repository.commit(repository.tree(("120000", "a", link), ("40000", "a", folder)))
    fetch(server, into)
    assert list((tmp_path / "outside").iterdir()) == []


def test_links_are_checked_out_as_links(server, repository, into, tmp_path):
    (tmp_path / "outside").write_text("untouched")
    repository.commit(repository.tree(("120000", "link", repository.blob(str(tmp_path / "outside").encode()))))
    fetch(server, into)
    assert (into / "link").is_symlink()
    assert (tmp_path / "outside").read_text() == "untouched"


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@example.com/x",
        "ssh://:secret@example.com/x",
        "https:///x",
        "http://[bad/x",
        "ext::sh -c touch%20pwned",
        "file:///etc",
        "/etc",
        "git@host:path",
        "--upload-pack=x",
    ],
)
def test_other_ways_to_a_repository_are_refused_even_if_the_request_was_not_checked(into, url):
    source = GitSource.model_construct(url=url, ref="HEAD", username=None)
    with pytest.raises(InvalidRequest, match=r"source\.url") as refused:
        git_source.check(source)
    assert "secret@" not in str(refused.value)
    with pytest.raises(SourceFailed):
        git_source.fetch(source, None, into, timeout=5, cancelled=bool, note=lambda _: None)
    assert list(into.iterdir()) == []


@pytest.mark.parametrize(
    "ref", ["main:refs/heads/x", "+main", "^main", "a..b", "a~1", "a^", "refs/heads/*", "a?", "a[b", "@{1}", "a\\b"]
)
def test_what_is_no_plain_ref_is_refused(ref):
    with pytest.raises(InvalidRequest, match=r"source\.ref"):
        git_source.check(GitSource(url="https://example.com/x", ref=ref))


def test_a_machine_without_git_is_told(server, into, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceFailed, match="git is not installed"):
        fetch(server, into)


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """An `ssh` that writes down what it is asked and runs it on this machine."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ssh"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/asked\nfor last; do :; done\nexec sh -c "$last"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path / "asked"


@pytest.mark.parametrize(
    ("user", "username", "login"), [("", "dev", "dev@host"), ("git@", "dev", "git@host"), ("", None, "host")]
)
def test_ssh_is_asked_for_the_user_and_asks_nobody(repository, into, ssh, user, username, login):
    commit = repository.commit_files(file="x")
    source = GitSource(url=f"ssh://{user}host{repository.path}", username=username)
    assert git_source.fetch(source, None, into, timeout=60, cancelled=bool, note=lambda _: None) == commit
    asked = ssh.read_text().splitlines()
    assert login in asked
    assert "BatchMode=yes" in asked


@pytest.mark.parametrize(
    ("url", "username"),
    [
        ("ssh://-oProxyCommand=touch pwned/x", None),
        ("ssh://-oProxyCommand=x@host/x", None),
        ("ssh://host/x", "-oProxyCommand=x"),
    ],
)
def test_ssh_is_never_given_an_option_in_a_name(into, ssh, url, username):
    source = GitSource.model_construct(url=url, ref="HEAD", username=username)
    with pytest.raises(SourceFailed, match="strange hostname"):
        git_source.fetch(source, None, into, timeout=60, cancelled=bool, note=lambda _: None)
    assert not ssh.exists()
