"""The shared library in jenkins/: its own tests, in Groovy, and its agreement with the command line that it calls."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# As `TESTS RUN` of Maven Surefire: the last such line is the sum of all classes.
COUNTS = re.compile(r"Tests run: (\d+), Failures: (\d+), Errors: (\d+), Skipped: (\d+)$", re.MULTILINE)


@pytest.mark.timeout(900)  # at first Maven fetches what it needs
def test_the_library_passes_its_tests_and_its_lint(capsys):
    ended = subprocess.run(
        [ROOT / "scripts/pipeline-library"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    with capsys.disabled():
        print("\nThe pipeline library:", *re.findall(r"Tests run: .*", ended.stdout)[-1:])
    assert ended.returncode == 0, ended.stdout
    run, *wrong = map(int, COUNTS.findall(ended.stdout)[-1])
    assert run > 80
    assert wrong == [0, 0, 0]


@pytest.mark.parametrize(("source", "command"), [("RunOptions", ["run"]), ("ImageOptions", ["image", "build"])])
def test_every_option_that_the_library_uses_is_one_of_the_command_line(source, command):
    text = (ROOT / f"jenkins/src/sibling/{source}.groovy").read_text()
    used = set(re.findall(r"'(--[a-z][a-z-]*)=?'", text))
    program = [sys.executable, "-m", "api.client", *command, "--help"]
    known = subprocess.run(program, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert used
    assert used <= set(re.findall(r"--[a-z][a-z-]*", known))


@pytest.mark.parametrize("folder", ["vars", "src/sibling"])
def test_there_is_help_or_a_comment_for_each_part(folder):
    for file in (ROOT / "jenkins" / folder).glob("*.groovy"):
        assert "/**" in file.read_text(), file
        assert folder != "vars" or file.with_suffix(".txt").read_text().strip(), file
