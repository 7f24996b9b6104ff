"""`.siblingignore` against the original: git's own reading of the same patterns."""

from __future__ import annotations

import subprocess

import pytest

from api.client.errors import ClientError
from api.client.ignore import Ignore

FILES = [
    "a", "a.log", "ab", "b/a", "b/a.log", "b/c/a", "b/c/d.txt", "build/x", "src/build/y", "src/a.py", "src/ab.py",
    "foo/bar/baz", "x/foo/bar", "-", "]", "^", "#c", "!d", "sp ", "q?", "n[1]", "deep/er/and/deeper/a.log",
    "node_modules/m/index.js",
]  # fmt: skip
PATTERNS = [
    "a", "/a", "*.log", "b/", "b/a", "build", "/build", "build/", "src/build", "**/a", "b/**", "b/**/a", "b/**/d.txt",
    "**/c/*", "foo/*", "foo/bar", "*/bar", "/*", "*", "?", "a?", "[ab]", "[!a]", "[^a]", "[]]", "[]-]", "[!]]",
    "[a-c]*", "\\#c", "\\!d", "#c", "sp\\ ", "sp ", "q\\?", "n\\[1\\]", "n[[]1]", "*\n!a.log", "*.log\n!b/a.log",
    "b/\n!b/a", "/*\n!/src\n/src/*\n!/src/a.py", "a*b", "**", "/**", "**/", "a**", "src/**/*.py", "", " ", "b/c",
    "node_modules", "*.l[o]g", "[", "a[", "deep/**/a.log",
]  # fmt: skip


def ignored_by_us(patterns):
    """Walk as the upload does: nothing below an ignored folder is looked at."""
    ignore = Ignore(patterns)

    def gone(path):
        parts = path.split("/")
        folders = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        return any(ignore(folder, folder=True) for folder in folders) or ignore(path, folder=False)

    return {path for path in FILES if gone(path)}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    return root


@pytest.mark.parametrize("patterns", PATTERNS)
def test_the_same_files_are_ignored_as_by_git(repository, patterns):
    (repository / ".gitignore").write_text(patterns)
    listing = ["git", "-c", "core.excludesFile=", "ls-files", "-z", "--others", "--exclude-standard"]
    kept = subprocess.run(listing, cwd=repository, capture_output=True, check=True, text=True).stdout.split("\0")
    assert ignored_by_us(patterns) == set(FILES) - set(kept)


def test_a_pattern_that_means_nothing_is_told():
    with pytest.raises(ClientError, match=r"'\[z-a\]' is not a pattern"):
        Ignore("[z-a]")
