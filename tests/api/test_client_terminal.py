"""What a person at a terminal sees, and what a pipe must not."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
import threading

from api.client.terminal import size, table
from tests.api import client_process
from tests.fakes.build_server import BuildServer, FakeBuild, Say, UntilReleased

RUN = ("run", "--image", "busybox:1")


class Terminal:
    """A pseudo-terminal of 80 columns that remembers all that was written to it."""

    def __init__(self) -> None:
        self._master, self.descriptor = pty.openpty()
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.seen = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the last writer has left
            while data := os.read(self._master, 4096):
                self.seen += data

    def close(self) -> str:
        os.close(self.descriptor)
        self._reader.join()
        os.close(self._master)
        return self.seen.decode()


def shown(text: str) -> list[str]:
    """The screen's lines in the end: what a carriage return and `erase line` wrote over is gone."""
    return [line.rsplit("\r\x1b[K", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]


def run_on_terminal(build, *options, hold=None, **env):
    terminal = Terminal()
    streams = {"stdout": terminal.descriptor, "stderr": terminal.descriptor}
    with BuildServer(build) as server:
        command = (*RUN, "--url", server.url, *options, "--", "true")
        with client_process.start(*command, env=client_process.environment(**env), **streams) as process:
            if hold:
                hold(server)
            process.wait(30)
    return terminal.close()


def test_the_upload_shows_its_progress_and_takes_it_away(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)
    text = run_on_terminal(FakeBuild((Say(b"log\n"),)), "--source", str(tmp_path))
    assert re.search(r"\[sibling\] uploading \[=* *\] +\d+% of \d", text)
    lines = shown(text)
    assert lines[0] == "log"
    assert lines[1].startswith("[sibling] SUCCESS")
    assert lines[2:] == [""]


def test_a_build_that_is_silent_shows_its_state_until_its_first_byte():
    build = FakeBuild((UntilReleased(), Say(b"log\n")), state="preparing")

    def hold(server):
        server.wait_for("GET", "log")
        server.wait_for("GET", f"{build.id}", times=2)
        build.release.set()

    text = run_on_terminal(build, hold=hold)
    assert f"[sibling] build {build.id}: preparing, " in text
    assert shown(text)[0] == "log"


def test_colours_mark_streams_with_timestamps_on_a_terminal():
    build = FakeBuild((Say(b"out\n"), Say(b"err\n", "stderr"), Say(b"service\n", "sibling")))
    lines = shown(run_on_terminal(build, "--timestamps"))
    time = "10:00:00.250 "
    assert lines[:3] == [f"{time}out", f"{time}\x1b[31merr\x1b[0m", f"{time}\x1b[36mservice\x1b[0m"]


def test_no_color_is_obeyed():
    assert "\x1b[3" not in run_on_terminal(FakeBuild((Say(b"err\n", "stderr"),)), "--timestamps", NO_COLOR="1")


def test_a_pipe_sees_no_progress_and_no_colours(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)
    with BuildServer(FakeBuild((Say(b"err\n", "stderr"),))) as server:
        ended = client_process.run(*RUN, "--url", server.url, "--timestamps", "--source", str(tmp_path), "--", "true")
    assert b"\x1b" not in ended.stdout + ended.stderr
    assert b"\r" not in ended.stdout + ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_sizes_and_tables_for_people():
    assert [size(n) for n in (0, 999, 1000, 3_400_000, 5_000_000_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "3.4 MB",
        "5000.0 GB",
    ]
    assert table(("A", "B"), [("long", "x"), ("s", "yy")]) == "A     B\nlong  x\ns     yy\n"
    assert table(("A", "B"), []) == "A  B\n"
