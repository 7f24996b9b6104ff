"""What a person at a terminal sees of an image's build; the messages are recordings of buildx 0.13.1."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import termios
import threading
from base64 import b64encode
from pathlib import Path

import pytest

from api.client.steps import KEPT_LINES, Steps, plain
from api.client.terminal import cut, width_of
from tests.api import client_process
from tests.api.image_steps import built, posted
from tests.fakes.build_server import BuildServer, FakeBuild, Say, UntilCancelled, UntilReleased

RECORDINGS = Path(__file__).parent / "progress"
BUILT, CACHED, FAILED = ((RECORDINGS / f"{name}.jsonl").read_bytes() for name in ("built", "cached", "failed"))
_PIECE = re.compile(r"\x1b\[(\d*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Terminal:
    """A pseudo-terminal and what stands on its screen, with no bottom."""

    def __init__(self, columns: int = 70, rows: int = 24) -> None:
        self._master, self.descriptor = pty.openpty()
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.seen = b""
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the last writer has left
            while data := os.read(self._master, 4096):
                with self._more:
                    self.seen += data
                    self._more.notify_all()

    def wait_for(self, text: str) -> None:
        with self._more:
            assert self._more.wait_for(lambda: any(text in line for line in self.screen()), 20), self.screen()

    def screen(self) -> list[str]:
        lines, row, column = [""], 0, 0
        for count, command, back, down, text in _PIECE.findall(self.seen.decode(errors="ignore")):
            if text:
                lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
                column += len(text)
            elif back:
                column = 0
            elif down:
                row += 1
                lines += [""] * (row == len(lines))
            elif command == "A":
                row -= int(count or 1)
            elif command == "K":
                lines[row] = lines[row][:column]
        return lines

    def close(self) -> list[str]:
        os.close(self.descriptor)
        self._reader.join()
        os.close(self._master)
        return self.screen()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return str(tmp_path)


def build_on_terminal(folder, build, *options, hold=None, columns=70, rows=24, **env):
    """The screen in the end, all that was written, and what the service was asked."""
    terminal = Terminal(columns, rows)
    variables = {"CI": "", "NO_COLOR": "1", **env}
    with BuildServer(build) as server:
        command = ("image", "build", "--url", server.url, *options, folder)
        with client_process.start(
            *command, env=client_process.environment(**variables), stderr=terminal.descriptor
        ) as process:
            if hold:
                hold(terminal, process)
            process.communicate(timeout=30)
        request = posted(server)
    return terminal.close(), terminal.seen.decode(), request


def test_in_the_end_every_step_stands_there_once_with_its_time(folder):
    lines, _, request = build_on_terminal(folder, built(Say(BUILT)))
    assert request["progress"] == "json"
    assert lines[:9] == [
        " => [internal] load build definition from Dockerfile             0.0s",
        " => [internal] load metadata for docker.io/sibling-test/busybox: 0.0s",
        " => [internal] load .dockerignore                                0.0s",
        " => [base 1/2] FROM docker.io/sibling-test/busybox:1             0.0s",
        " => [internal] load build context                                0.0s",
        ' => [base 2/2] RUN echo compiling; for i in 1 2 3; do echo "line 1.1s',
        " => [stage-1 1/2] COPY hello.txt /srv/                           0.0s",
        " => [stage-1 2/2] RUN cat /srv/hello.txt                         0.1s",
        " => exporting to image                                           0.0s",
    ]
    assert lines[9].startswith("[sibling] Image sha256:")


def test_cached_steps_are_marked(folder):
    lines, _, _ = build_on_terminal(folder, built(Say(CACHED)))
    assert sum(line.startswith(" => CACHED [") for line in lines) == 3


def test_a_step_that_failed_shows_its_output_and_what_the_builder_says_of_it(folder):
    lines, _, _ = build_on_terminal(
        folder, FakeBuild((Say(FAILED),), result="FAILURE", exit_code=1, reason="exit-code")
    )
    begin = next(index for index, line in enumerate(lines) if line.startswith(" => ERROR [2/2] RUN echo fine"))
    assert lines[begin + 1 : begin + 6] == [
        "------",
        " > [2/2] RUN echo fine; echo broken >&2; exit 3:",
        "fine",
        "broken",
        "------",
    ]
    assert "   2 | >>> RUN echo fine; echo broken >&2; exit 3" in lines
    assert any(line.startswith("ERROR: failed to solve: process") for line in lines)


def test_running_steps_show_their_last_lines_and_go_away(folder):
    messages = BUILT.splitlines(keepends=True)
    end = next(index for index, line in enumerate(messages) if b"bGluZSAzIG9m" in line) + 1  # "line 3 of", in base64
    build = built(Say(b"".join(messages[:end])), UntilReleased(), Say(b"".join(messages[end:])))

    def hold(terminal, _):
        terminal.wait_for(" => => # line 3 of the compiler")
        running = terminal.screen()
        build.release.set()
        head = next(index for index, line in enumerate(running) if line.startswith("[+] Building "))
        assert running[head].endswith("s (5/8)")
        assert running[head + 1].startswith(" => [base 2/2] RUN echo compiling")
        assert running[head + 2 :] == [
            " => => # compiling",
            " => => # line 1 of the compiler",
            " => => # line 2 of the compiler",
            " => => # line 3 of the compiler",
        ]

    lines, _, _ = build_on_terminal(folder, build, hold=hold)
    assert not any("# line" in line or "[+]" in line for line in lines)


def test_more_running_steps_than_the_window_has_lines_are_cut_off(folder):
    vertexes = [{"digest": f"d{n}", "name": f"step {n}", "started": "2026-01-01T00:00:00Z"} for n in range(30)]
    build = built(Say(json.dumps({"vertexes": vertexes}).encode() + b"\n"), UntilReleased())

    def hold(terminal, _):
        terminal.wait_for("step 7")
        assert not any("step 8" in line for line in terminal.screen())
        build.release.set()

    lines, _, _ = build_on_terminal(folder, build, hold=hold, rows=10)
    assert not any("=> step" in line for line in lines)


def test_a_cancel_and_what_the_service_says_stand_above_the_running_steps(folder):
    message = {"vertexes": [{"digest": "d", "name": "slow", "started": "2026-01-01T00:00:00Z"}]}
    build = built(Say(json.dumps(message).encode() + b"\nnotice of the service\n"), UntilCancelled(), UntilReleased())

    def hold(terminal, process):
        terminal.wait_for("notice of the service")
        terminal.wait_for(" => slow")
        process.send_signal(signal.SIGINT)
        terminal.wait_for("[sibling] Cancelling build")
        terminal.wait_for(" => slow")
        assert [line[:19] for line in terminal.screen()[:2]] == ["notice of the servi", "[sibling] Cancellin"]
        build.release.set()

    lines, _, _ = build_on_terminal(folder, build, hold=hold)
    assert lines[2].startswith("[sibling] ABORTED")


def test_colours_are_written_unless_the_person_said_no(folder):
    assert "\x1b[34m => CACHED" in build_on_terminal(folder, built(Say(CACHED)), NO_COLOR="")[1]
    assert "\x1b[34m" not in build_on_terminal(folder, built(Say(CACHED)))[1]


@pytest.mark.parametrize(
    ("options", "env", "asked"),
    [
        ((), {}, "json"),
        ((), {"CI": "true"}, "plain"),
        ((), {"TERM": "dumb"}, "plain"),
        (("--progress", "tty"), {"CI": "true"}, "json"),
        (("--progress", "tty"), {"TERM": "dumb"}, "plain"),
        (("--progress", "plain"), {}, "plain"),
        (("-q",), {}, "plain"),
    ],
)
def test_which_progress_is_asked_for_on_a_terminal(folder, options, env, asked):
    _, text, request = build_on_terminal(folder, built(), *options, **env)
    assert request["progress"] == asked
    assert ("\x1b[1A" in text) is False


def stepped(*messages, clock=lambda: 0.0):
    steps = Steps(clock)
    for message in messages:
        steps.take(message)
    return list(steps)


def output(*data):
    logs = [{"vertex": "d", "data": b64encode(piece).decode()} for piece in data]
    (step,) = stepped({"vertexes": [{"digest": "d", "name": "n"}]}, *({"logs": [log]} for log in logs))
    return step.output()


def test_the_recorded_messages_are_the_steps_that_docker_names():
    steps = stepped(*map(json.loads, BUILT.splitlines()))
    assert len(steps) == 9
    assert all(step.seconds is not None and not step.error for step in steps)
    compiled = next(step for step in steps if step.name.startswith("[base 2/2]"))
    assert compiled.output() == [
        "compiling",
        "line 1 of the compiler",
        "line 2 of the compiler",
        "line 3 of the compiler",
        "warning",
    ]
    assert round(compiled.seconds or 0, 3) == 1.108


def test_a_step_may_run_again_after_its_end():
    vertex = {"digest": "d", "name": "n", "started": "2026-01-01T00:00:00Z"}
    ended = {**vertex, "completed": "2026-01-01T00:00:01Z"}
    (step,) = stepped({"vertexes": [vertex, ended, vertex]})
    assert step.running
    (step,) = stepped({"vertexes": [vertex, ended, vertex, {**vertex, "completed": "2026-01-01T00:00:09Z"}]})
    assert (step.running, step.seconds) == (False, 9.0)


def test_output_is_lines_however_it_is_cut_and_shows_what_a_terminal_would():
    assert output(b"ha", b"lf\nne", b"xt") == ["half", "next"]
    assert output("é\n".encode()[:1], "é\n".encode()[1:]) == ["é"]
    assert output(b"10%\r20%\r30%\n", b"40%\r50%\r") == ["30%", "50%"]
    assert output(b"windows\r\n") == ["windows"]
    assert output(b"\x1b[31mred\x1b[0m\x1b]0;title\x07\x07\tx\n") == ["red     x"]
    assert len(output(b"x\n" * 5000)) == KEPT_LINES
    assert sum(map(len, output(b"x" * 1_000_000))) < 10_000


@pytest.mark.parametrize(
    "line", [b"[]", b"1", b'{"vertexes":[1]}', b'{"vertexes":[{}]}', b'{"logs":[{"vertex":"d"}]}', b"{", b"\xff"]
)
def test_what_is_no_message_of_buildkits_is_shown_as_it_is(folder, line):
    known = b'{"vertexes":[{"digest":"d","name":"n"}]}\n'
    lines, _, _ = build_on_terminal(folder, built(Say(known + line + b"\n")))
    assert lines[0] == line.decode(errors="replace")


def test_widths_are_those_of_a_terminal():
    assert [width_of(text) for text in ("abc", "é", "e\u0301", "漢字", "")] == [3, 1, 1, 4, 0]
    assert [cut("漢字", width) for width in (4, 3, 2, 1, 0, -1)] == ["漢字", "漢", "漢", "", "", ""]
    assert plain("a\nb\x00\x7f\x9b") == "a b"
