"""`.dockerignore` against the original: what Docker itself leaves out of a context by the same patterns."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.client import dockerignore
from api.client.dockerignore import Dockerignore
from api.client.errors import ClientError
from api.client.upload import tar

NAMES_OF_FILES = (
    "a A a.log ab b/a b/a.log b/c/a b/c/d.txt src/a.py src/build/y build/x README.md README-secret.md docs/README.md "
    "docs/api/x.md somedir/temp.txt somedir/sub/temp.txt tempa #c !d q? n[1] é a*b"
)
FILES = NAMES_OF_FILES.split()


def all_but(kept):
    return " ".join(name for name in FILES if name not in kept.split())


# What Docker ignores by them; the test with the engine holds that.
PATTERNS = [
    ("a", "a"),
    ("/a", "a"),
    ("./a", "a"),
    ("x/../a", "a"),
    ("b//a", "b/a"),
    ("  a  ", "a"),
    ("b", "b/a b/a.log b/c/a b/c/d.txt"),
    ("b/", "b/a b/a.log b/c/a b/c/d.txt"),
    ("/b/", "b/a b/a.log b/c/a b/c/d.txt"),
    ("b/*", "b/a b/a.log b/c/a b/c/d.txt"),
    ("b/**", "b/a b/a.log b/c/a b/c/d.txt"),
    ("b/c", "b/c/a b/c/d.txt"),
    ("*/a", "b/a"),
    ("*/*/a", "b/c/a"),
    ("**/a", "a b/a b/c/a"),
    ("**/*.log", "a.log b/a.log"),
    ("**.log", "a.log b/a.log"),
    ("**a*.log", "a.log b/a.log"),
    ("*.log", "a.log"),
    ("a*", "a a.log ab a*b"),
    ("a**", "a a.log ab a*b"),
    ("**", all_but("")),
    ("*", all_but("")),
    ("?", "a A b/a b/a.log b/c/a b/c/d.txt é"),
    ("/", ""),
    (".", ""),
    (" ", ""),
    ("# a", ""),
    (" #c", "#c"),
    ("\\#c", "#c"),
    ("\\!d", "!d"),
    ("!d", ""),
    ("[ab]", "a b/a b/a.log b/c/a b/c/d.txt"),
    ("[^a]", "A b/a b/a.log b/c/a b/c/d.txt é"),
    ("[A-Z]*", "A README.md README-secret.md"),
    ("n\\[1\\]", "n[1]"),
    ("n[[]1]", "n[1]"),
    ("q\\?", "q?"),
    ("a\\*b", "a*b"),
    ("*/temp*", "somedir/temp.txt"),
    ("*/*/temp*", "somedir/sub/temp.txt"),
    ("temp?", "tempa"),
    ("build", "build/x"),
    ("**/build", "src/build/y build/x"),
    ("src/**/y", "src/build/y"),
    ("é", "é"),
    ("*.md\n!README.md", "README-secret.md"),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md"),
    ("*.md\nREADME-secret.md\n!README*.md", ""),
    ("docs\n!docs/README.md", "docs/api/x.md"),
    ("docs/\n!docs/api", "docs/README.md"),
    ("**\n!docs/api/x.md", all_but("docs/api/x.md")),
    ("*\n!**/*.log", all_but("a.log b/a.log")),
    ("b\n!b/a\nb", "b/a.log b/c/a b/c/d.txt"),
    ("!b/a\nb", "b/a b/a.log b/c/a b/c/d.txt"),
    ("b\n! b/c", "b/a b/a.log"),
    ("*\n!*\na", "a"),
    ("*\n!./src", all_but("src/a.py src/build/y")),
    ("\ufeffa\r\nab\r\n", "a ab"),
]  # fmt: skip


def make(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")


def sent(folder, ignored):
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar(str(folder), print, ignored)))) as archive:
        return [member.name for member in archive]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("context")
    make(root, FILES)
    return root


@pytest.mark.parametrize(("patterns", "ignored"), PATTERNS)
def test_the_patterns_ignore_what_docker_ignores_by_them(tree, patterns, ignored):
    files = {name for name in sent(tree, Dockerignore(patterns)) if (tree / name).is_file()}
    assert files == set(FILES) - set(ignored.split())


@pytest.mark.engine
@pytest.mark.usefixtures("docker_host")
def test_docker_itself_says_so(tmp_path):
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /c/\nCOPY Dockerfile /\n")
    context = tmp_path / "context"
    make(context, FILES)
    (context / "Dockerfile").write_text("")  # so that there is always something to copy
    wrong = []
    for patterns, ignored in PATTERNS:
        (context / ".dockerignore").write_text(f"{patterns}\n!Dockerfile")
        command = ["docker", "buildx", "build", "-q", "-f", str(dockerfile), "-o", "type=tar,dest=-", str(context)]
        made = subprocess.run(command, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(made)) as archive:
            copied = {member.name.removeprefix("c/") for member in archive if member.isreg()}
        if copied - {"Dockerfile", ".dockerignore"} != set(FILES) - set(ignored.split()):
            wrong.append((patterns, copied))
    assert wrong == []


@pytest.mark.parametrize(
    "pattern", ["[", "a[", "a[b", "[]a]", "[-]", "[a-]", "[^", "[z-a]", "a\\", "!", "! ", "[a-b-c]"]
)
def test_a_pattern_that_docker_refuses_is_told_with_its_file(pattern):
    with pytest.raises(ClientError, match=r"^x/\.dockerignore: .* is not a pattern"):
        Dockerignore(pattern, file="x/.dockerignore")


def test_a_folder_goes_along_only_if_something_below_it_does(tmp_path):
    make(tmp_path, ["a/b/keep", "a/c/drop", "d/drop"])
    (tmp_path / "empty").mkdir()
    assert sent(tmp_path, Dockerignore("*\n!a/b/keep")) == ["a", "a/b", "a/b/keep"]
    assert sent(tmp_path, Dockerignore("")) == [
        "a", "a/b", "a/b/keep", "a/c", "a/c/drop", "d", "d/drop", "empty",
    ]  # fmt: skip


def test_a_link_to_a_folder_is_ignored_as_the_link_that_it_is(tmp_path):
    make(tmp_path, ["real/f"])
    (tmp_path / "link").symlink_to("real")
    assert sent(tmp_path, Dockerignore("link/f")) == ["link", "real", "real/f"]
    assert sent(tmp_path, Dockerignore("link")) == ["real", "real/f"]


def test_nothing_below_an_ignored_folder_is_looked_at_if_no_exception_leads_there(tmp_path):
    assert not Dockerignore("node_modules\n!src/a").opens("node_modules")
    assert not Dockerignore("*\n!a").opens("ab")
    assert Dockerignore("*\n!a/b").opens("a")
    assert Dockerignore("*\n!a*/b").opens("ab")
    assert Dockerignore("*\n!**/b").opens("c/d")


def test_what_must_be_sent_is_whatever_the_patterns_say(tmp_path):
    make(tmp_path, ["sub/Dockerfile", "sub/other", ".dockerignore"])
    assert sent(tmp_path, Dockerignore("**", ["sub/Dockerfile", ".dockerignore"])) == [
        ".dockerignore", "sub", "sub/Dockerfile",
    ]  # fmt: skip


def test_names_that_are_no_unicode_can_be_ignored(tmp_path):
    (tmp_path / ".dockerignore").write_bytes(b"\xff*\n")
    make(tmp_path, ["\udcffx", "y"])
    assert sent(tmp_path, dockerignore.read(tmp_path / ".dockerignore", [])) == [".dockerignore", "y"]


def test_a_missing_file_ignores_nothing_and_one_that_cannot_be_read_is_told(tmp_path):
    assert not dockerignore.read(tmp_path / "none", [])("a", folder=False)
    with pytest.raises(ClientError, match="cannot be read: Is a directory"):
        dockerignore.read(Path(tmp_path), [])


# A second reading of the rules, as slow and as plain as it can be.


def matches(glob, path):
    if glob.startswith("**") and not glob.startswith("**/") and not set(glob[2:]) & set("*?"):
        return path.endswith(glob[2:])
    return matches_from(glob, path)


def matches_from(glob, path):
    if not glob:
        return not path
    if glob.startswith("**"):
        rest = glob[2:].removeprefix("/")
        starts = [0, *(index + 1 for index, character in enumerate(path) if character == "/")]
        return not rest or any(matches_from(rest, path[start:]) for start in starts)
    if glob[0] == "*":
        return any(matches_from(glob[1:], path[end:]) for end in range(len(path.split("/")[0]) + 1))
    return bool(path) and glob[0] in {path[0], "?" if path[0] != "/" else ""} and matches_from(glob[1:], path[1:])


def verdict(lines, path):
    """Whether it is ignored, and which lines matched it: those that did above, and those that change something here."""
    parent = path.rpartition("/")[0]
    above = verdict(lines, parent)[1] if parent else [False] * len(lines)
    ignored, matched = False, []
    for line, inherited in zip(lines, above, strict=True):
        exception = line.startswith("!")
        glob = line.removeprefix("!").strip("/")
        matched.append(inherited or (exception == ignored and matches(glob, path)))
        if matched[-1]:
            ignored = not exception
    return ignored, matched


NAMES = st.sampled_from(["a", "b", "ab", "ba"])
GLOBS = st.sampled_from(["a", "b", "ab", "*", "**", "?", "a*", "*b", "a**", "**b", "**b*", "a?"])
LINES = st.builds(
    lambda mark, parts, end: mark + "/".join(parts) + end,
    st.sampled_from(["", "", "!"]),
    st.lists(GLOBS, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)


@settings(max_examples=150, deadline=None)
@given(st.sets(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=12), st.lists(LINES, max_size=6))
def test_any_patterns_send_what_a_plain_reading_of_the_rules_sends(tmp_path_factory, names, lines):
    root = tmp_path_factory.mktemp("any")
    files = [name for name in names if not any(other.startswith(f"{name}/") for other in names)]
    make(root, files)
    entries = {str(path.relative_to(root)) for path in root.rglob("*")}
    kept = {entry for entry in entries if not verdict(lines, entry)[0]}
    expected = kept | {entry for entry in entries if any(name.startswith(f"{entry}/") for name in kept)}
    assert set(sent(root, Dockerignore("\n".join(lines)))) == expected
