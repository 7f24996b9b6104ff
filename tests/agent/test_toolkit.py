"""Whatever text a build is made of reaches its program as it was, through a real shell; `enter` runs in any image."""

import os
import shutil
import signal
import stat
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import toolkit
from agent.busybox import find_static_busybox
from agent.errors import InvalidRequest
from agent.requests import MAX_COMMANDS_BYTES, MAX_SECRETS_BYTES, BuildRequest
from api.client_zipapp import zipapp

# All that a command line and a variable may hold: any bytes but NUL, here those of valid UTF-8.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
HOSTILE = [
    "'",
    "''\"'\\''",
    "$(touch /tmp/no)",
    "`id`",
    "a\nb\n",
    "\\",
    "-n",
    "*",
    "~",
    "!!",
    "a;exit 9",
    "\r\t\x1b",
    "ä€😀",
]


def task(*argv, secrets=None, **parts):
    request = BuildRequest(image="image", argv=list(argv), secrets=secrets or {}, **parts)
    return toolkit.task(request, request.secret_values())


def evaluated(source, names):
    """The arguments, the folder and the variables after `enter`'s own `eval` of a task."""
    values = " ".join(f'"${name}"' for name in names)
    script = f'task=$(cat)\neval "$task"\nprintf "%s\\0" "$@" "$_sibling_workdir" {values}'
    told = subprocess.run([find_static_busybox(), "sh", "-c", script], input=source, capture_output=True, check=True)
    assert told.stderr == b""
    return told.stdout.decode().split("\0")[:-1]


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS)
def test_any_text_survives_the_shell(argv, secret):
    source = task(*argv, secrets={"TOKEN": secret}, workdir="sub")
    assert evaluated(source, ["TOKEN"]) == [*argv, "/workspace/sub", secret]


def test_texts_made_to_break_out_of_quotes_do_not():
    source = task(*HOSTILE, secrets={f"S{number}": text for number, text in enumerate(HOSTILE)})
    names = [f"S{number}" for number in range(len(HOSTILE))]
    assert evaluated(source, names) == [*HOSTILE, "/workspace", *HOSTILE]


def test_commands_are_lines_of_one_shell_that_stops_at_the_first_failure():
    request = BuildRequest(image="image", commands=["cd /", "it's='x'\ntrue"])
    assert evaluated(toolkit.task(request, {}), []) == ["sh", "-e", "-c", "cd /\nit's='x'\ntrue", "/workspace"]


@pytest.mark.parametrize(
    ("workdir", "folder"),
    [(".", "/workspace"), ("a/../b", "/workspace/b"), ("/srv", "/srv"), ("it's $HOME", "/workspace/it's $HOME")],
)
def test_a_folder_is_below_the_workspace_unless_it_is_absolute(workdir, folder):
    assert evaluated(task("true", workdir=workdir), [])[-1] == folder


def test_a_task_that_the_engines_socket_would_not_hold_is_refused():
    """Quotes take four bytes each once they are quoted."""
    with pytest.raises(InvalidRequest, match=r"over 200000; use a source"):
        task("'" * (MAX_COMMANDS_BYTES // 2), secrets={"TOKEN": "'" * 1000})


def test_the_most_that_a_request_may_hold_is_accepted_if_it_needs_no_quotes():
    source = task("x" * (MAX_COMMANDS_BYTES - 1), secrets={"TOKEN": "y" * MAX_SECRETS_BYTES})
    assert len(source) <= toolkit.MAX_TASK


def test_the_toolkit_is_installed_once_and_anyone_may_use_it(tmp_path):
    path = toolkit.install(tmp_path, find_static_busybox(), zipapp())
    before = (tmp_path / path).stat().st_ino
    assert toolkit.install(tmp_path, find_static_busybox(), zipapp()) == path
    assert len(list((tmp_path / "toolkit").iterdir())) == 2  # the Python has a folder of its own
    assert (tmp_path / path).stat().st_ino == before
    for part in ("", "bin", "bin/busybox", "bin/sibling", "enter"):
        assert stat.S_IMODE((tmp_path / path / part).stat().st_mode) == 0o755


def test_another_content_gets_a_folder_of_its_own_and_the_old_one_stays(tmp_path):
    other = tmp_path / "busybox"
    other.write_bytes(find_static_busybox().read_bytes() + b"\n")
    other.chmod(0o755)
    paths = {toolkit.install(tmp_path, busybox, zipapp()) for busybox in (find_static_busybox(), other)}
    assert len(paths) == 2
    assert all((tmp_path / path / "enter").is_file() for path in paths)


def test_an_installation_that_was_killed_is_not_taken_for_a_whole_one(tmp_path):
    (tmp_path / "toolkit" / "tmpabcdef").mkdir(parents=True)
    path = toolkit.install(tmp_path, find_static_busybox(), zipapp())
    assert (tmp_path / path / "bin" / "sh").exists()


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """An image of nothing: a root folder with the toolkit mounted, an empty workspace and no shell of its own."""
    root, data = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("data")
    target = root / toolkit.TARGET.removeprefix("/")
    target.parent.mkdir()
    (data / toolkit.install(data, find_static_busybox(), zipapp())).rename(target)
    for folder in ("workspace", "tmp", "dev", "bin"):
        (root / folder).mkdir()
    (root / "dev/null").touch()
    return root


def entered(image, source, **env):
    """How `enter` ends in the image, with only these variables."""
    return subprocess.run(
        ["/usr/sbin/chroot", image, *toolkit.ENTRYPOINT], input=source, capture_output=True, env=env, check=False
    )


def test_a_build_runs_in_an_image_that_has_nothing(image):
    told = entered(image, task("sh", "-c", "pwd; echo $HOME $TOKEN; cat", secrets={"TOKEN": "t"}), PATH="/bin")
    assert (told.returncode, told.stdout, told.stderr) == (0, b"/workspace\n/tmp/home t\n", b"")


def test_the_exit_code_is_the_programs(image):
    assert entered(image, task("sh", "-c", "exit 42")).returncode == 42


def test_a_program_of_the_image_goes_before_the_toolkits(image):
    program = image / "bin" / "uname"
    program.write_text("#!/opt/sibling/bin/sh\necho mine\n")
    program.chmod(0o755)
    assert entered(image, task("uname"), PATH="/bin").stdout == b"mine\n"


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        (task("no-such-program"), 127, b"no-such-program is not in the image"),
        (task("true", workdir="gone"), 125, b"the working directory /workspace/gone is not there"),
        (b"", 125, b"the build's task did not arrive"),
    ],
)
def test_what_cannot_begin_says_why(image, source, code, words):
    told = entered(image, source)
    assert told.returncode == code
    assert b"[sibling] " in told.stderr
    assert words in told.stderr


def test_a_build_that_catches_term_and_exits_well_did_not_succeed(image):
    """The whole group is signalled, as docker-init does it."""
    script = "trap 'echo caught; exit 0' TERM; echo ready; while true; do sleep 0.01; done"
    with subprocess.Popen(
        ["/usr/sbin/chroot", image, *toolkit.ENTRYPOINT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        process.stdin.write(task("sh", "-c", script))
        process.stdin.close()
        assert process.stdout.readline() == b"ready\n"
        os.killpg(process.pid, signal.SIGTERM)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(20) == 143


@pytest.fixture(scope="module")
def agent_image(image):
    """The same, with an agents' toolkit whose loader says what it is told and what it sees, each ended by a NUL."""
    loader = image / "opt/sibling/lib/ld.so"
    loader.parent.mkdir()
    loader.write_text('#!/opt/sibling/bin/sh\nprintf "%s\\0" "$@" "$(cat /tmp/.sibling-secret)"\nenv -0\n')
    loader.chmod(0o755)
    return image


def agent(image, script=None, env=None, **parts):
    """What the loader is told, the secret that it finds, and its variables."""
    given = {"url": "http://jenkins/", "name": "n1", "secret": "5ec2e7", "heap": None, "archive": False, **parts}
    task = toolkit.agent_task(**given)
    told = entered(image, task if script is None else toolkit.wrapped(task, script), **{"PATH": "/bin", **(env or {})})
    assert (told.returncode, told.stderr) == (0, b"")
    said = told.stdout.decode().removesuffix("\0").split("\0")
    count = next(number for number, text in enumerate(said) if text == toolkit.WORKSPACE) + 1
    return said[:count], said[count], dict(line.split("=", 1) for line in said[count + 1 :])


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_reaches_the_agent_program_as_it_was(agent_image, text):
    parts = {"url": f"http://{text}", "name": f"n{text}", "secret": f"5{text}ec2e7", "options": [f"-Dx={text}"]}
    argv, secret, variables = agent(agent_image, **parts)
    assert argv[-9:] == [*("-url", parts["url"], "-name", parts["name"]), *argv[-5:]]
    assert argv[-5:] == ["-secret", "@/tmp/.sibling-secret", "-webSocket", "-workDir", "/workspace"]
    assert parts["options"][0] in argv
    assert secret == parts["secret"]
    assert "ec2e7" not in "".join(variables.values())


def test_the_secret_is_for_its_user_alone(agent_image):
    agent(agent_image)
    assert stat.S_IMODE((agent_image / "tmp/.sibling-secret").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("there", "given", "seen"),
    [
        (None, {}, {"LOCPATH": "/opt/sibling/lib/locale", "LC_CTYPE": "C.UTF-8"}),
        (None, {"LANG": "de_DE.UTF-8"}, {"LOCPATH": "/opt/sibling/lib/locale", "LANG": "de_DE.UTF-8"}),
        (None, {"LOCPATH": "/its/own"}, {"LOCPATH": "/its/own"}),
        ("C.utf8", {}, {"LC_CTYPE": "C.UTF-8"}),
        ("C.UTF-8", {}, {"LC_CTYPE": "C.UTF-8"}),
        ("C.utf8", {"LC_ALL": "C"}, {"LC_ALL": "C"}),
        ("en_US", {}, {}),
    ],
)
def test_the_agent_has_a_locale_if_there_is_any_and_the_images_choice_stands(agent_image, there, given, seen):
    locales = agent_image / "usr/lib/locale"
    (agent_image / "opt/sibling/lib/locale/C.utf8").mkdir(parents=True, exist_ok=True)
    if there is not None:
        (locales / there).mkdir(parents=True)
    try:
        variables = agent(agent_image, env=given)[2]
    finally:
        shutil.rmtree(locales, ignore_errors=True)
    assert {name: text for name, text in variables.items() if name.startswith(("LANG", "LC_", "LOC"))} == seen


def test_only_a_path_to_a_jvm_is_taken_from_the_images_libraries(agent_image):
    paths = [agent(agent_image, env={"LD_LIBRARY_PATH": path})[2] for path in ("/usr/local/cuda", "/j/lib/server:/x")]
    assert [variables.get("LD_LIBRARY_PATH") for variables in paths] == ["/usr/local/cuda", None]


def test_a_script_around_the_agent_is_given_its_whole_command(agent_image):
    around = agent(agent_image, '"$@"', name="it's")
    assert around[:2] == agent(agent_image, name="it's")[:2]


def test_the_heap_is_in_the_jvms_words(agent_image):
    assert "-Xmx65536k" in agent(agent_image, heap=64 * 1024**2)[0]
    assert not [word for word in agent(agent_image)[0] if word.startswith("-Xmx")]
