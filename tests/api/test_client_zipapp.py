"""The client as one file: nothing but a Python is needed, and a 3.9 is enough."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import zipfile

import pytest

from api import client
from api.client_zipapp import zipapp
from tests.api import client_process
from tests.fakes.build_server import BuildServer, FakeBuild, Say

SOURCES = sorted((client_process.ROOT / "api" / "client").glob("*.py"))


@pytest.fixture
def program(tmp_path):
    file = tmp_path / "sibling"
    file.write_bytes(zipapp())
    file.chmod(0o755)
    return str(file)


def run_alone(program, *arguments, cwd):
    """Isolated: no installed packages, no environment, not even the site module."""
    return subprocess.run([sys.executable, "-I", "-S", program, *arguments], cwd=cwd, capture_output=True, check=False)


def test_the_single_file_runs_a_build_with_nothing_installed(program, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "f").write_text("x")
    with BuildServer(FakeBuild((Say(b"alone\n"),), exit_code=0, artifacts={"a": b"1"})) as server:
        options = ("--source", "tree", "--artifact", "*", "--timestamps")
        ended = run_alone(program, "run", "--image", "i", "--url", server.url, *options, "--", "true", cwd=tmp_path)
    assert (ended.stdout[13:], ended.returncode) == (b"alone\n", 0)
    assert (tmp_path / "artifacts" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("command", client.COMMANDS)
def test_every_command_has_help_with_an_example(program, tmp_path, command):
    ended = run_alone(program, command, "--help", cwd=tmp_path)
    assert ended.returncode == 0
    assert f"\n  sibling {command}".encode() in ended.stdout


def test_the_overview_names_every_command(program, tmp_path):
    ended = run_alone(program, "--help", cwd=tmp_path)
    assert ended.returncode == 0
    assert all(f"  {name} ".encode() in ended.stdout for name in client.COMMANDS)


@pytest.mark.parametrize("arguments", [(), ("nosuch",), ("logs",), ("ps", "--nosuch")])
def test_a_wrong_command_line_ends_with_2(program, tmp_path, arguments):
    ended = run_alone(program, *arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"sibling" in ended.stderr


def test_it_starts_as_a_program_of_its_own(program):
    assert zipapp().startswith(b"#!/usr/bin/env python3\n")
    assert subprocess.run([program, "--help"], capture_output=True, check=True).stdout


def test_the_file_is_the_same_every_time_and_holds_no_traces_of_its_making():
    first = zipapp()
    zipapp.cache_clear()
    assert zipapp() == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert set(archive.namelist()) == {
            "__main__.py", "api/__init__.py", *(f"api/client/{source.name}" for source in SOURCES),
        }  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_syntax_is_python_3_9s_and_the_imports_are_the_standard_librarys(source):
    tree = ast.parse(source.read_text(), feature_version=(3, 9))
    imported = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    imported += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    foreign = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names and name != "api"}
    assert {name for name in foreign if not name.startswith("api.client")} == set()


def test_a_run_without_a_source_imports_no_archive_code():
    program = "import sys; from api.client import run; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], env=client_process.environment(), capture_output=True, check=True, text=True
    ).stdout.split()
    assert {"tarfile", "zipfile", "dataclasses", "asyncio", "subprocess", "structlog", "typer"}.isdisjoint(loaded)
