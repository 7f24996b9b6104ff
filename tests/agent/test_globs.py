import fnmatch
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidRequest
from agent.files.globs import Globs


def matched(pattern, path):
    """Whether a file at that path is named; and whether the way to it was open."""
    globs = Globs([pattern])
    reached = globs.start()
    for name in PurePosixPath(path).parts:
        reached = globs.step(reached, name)
    return bool(globs.matches(reached))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("a.txt", "a.txt"),
        ("./a.txt", "a.txt"),
        ("*", "a.txt"),
        ("*", ".hidden"),
        ("*.txt", "a.txt"),
        ("?.txt", "ä.txt"),
        ("[ab].txt", "b.txt"),
        ("[!ab].txt", "c.txt"),
        ("[[]x", "[x"),
        ("a[", "a["),
        ("a\nb", "a\nb"),
        ("a//b", "a/b"),
        ("a/./b", "a/b"),
        ("**", "a"),
        ("**", "a/b/c"),
        ("**/*.xml", "a.xml"),
        ("**/*.xml", "a/b/c.xml"),
        ("a/**/z", "a/z"),
        ("a/**/z", "a/b/c/z"),
        ("**/a/**/b/**", "x/a/y/b/z"),
        ("**/**/a", "a"),
        ("dist", "dist/a/b"),
        ("dist/", "dist/a/b"),
        ("dist/**", "dist/a/b"),
        ("d*t", "dist/a"),
        ("dist/*", "dist/a/b"),
        ("**/target", "a/target/b/c"),
        (".", "a/b"),
        ("./", "a/b"),
    ],
)
def test_named(pattern, path):
    assert matched(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.txt", "a/b.txt"),
        ("a*b", "a/b"),
        ("a?b", "a/b"),
        ("a[/]b", "a/b"),
        ("a**b", "a/b"),
        ("dist/", "dist"),
        ("dist/**", "dist"),
        ("dist", "distant"),
        ("dist", "a/dist"),
        ("**/*.xml", "a.xmlx"),
        ("a/**/z", "z"),
        ("A", "a"),
        ("[z-a]", "b"),
        ("*/", "file"),
    ],
)
def test_not_named(pattern, path):
    assert not matched(pattern, path)


@pytest.mark.parametrize("pattern", ["/etc/passwd", "/", "..", "../a", "a/../b", "a/..", "./../a", "**/.."])
def test_what_leads_out_is_refused(pattern):
    with pytest.raises(InvalidRequest, match="leads out"):
        Globs([pattern])


def test_each_glob_answers_for_itself():
    globs = Globs(["*.a", "x/", "*"])
    assert globs.matches(globs.step(globs.start(), "1.a")) == {0, 2}
    assert globs.matches(globs.step(globs.step(globs.start(), "x"), "1.a")) == {1, 2}


def test_a_folder_that_can_hold_nothing_is_not_entered():
    globs = Globs(["dist/*.jar", "src/**/*.xml"])
    assert not globs.step(globs.start(), "node_modules")
    assert globs.step(globs.start(), "dist")
    assert not globs.step(globs.step(globs.step(globs.start(), "dist"), "below"), "deeper")
    assert globs.step(globs.step(globs.step(globs.start(), "src"), "below"), "deeper")


NAMES = st.text("ab.", min_size=1, max_size=3).filter(lambda name: name not in {".", ".."})
PARTS = st.one_of(
    st.just("**"), st.text("ab.*?[]!", min_size=1, max_size=4).filter(lambda part: part not in {".", ".."})
)


def simple(parts, names):
    """The same by definition, slowly: try every length for `**`, and every folder above."""
    if not parts:
        return True
    if parts[0] == "**":
        return any(simple(parts[1:], names[count:]) for count in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], parts[0]) and simple(parts[1:], names[1:])


@given(st.lists(PARTS, min_size=1, max_size=4), st.lists(NAMES, min_size=1, max_size=4))
def test_it_is_what_the_definition_says(parts, names):
    tail = [*parts, "*"] if parts[-1] == "**" else parts
    assert matched("/".join(parts), "/".join(names)) == simple(tail, names)


@pytest.mark.timeout(10)
def test_a_glob_made_to_be_slow_is_not():
    globs = Globs(["**/" * 300 + "x", "*a" * 500 + "b", "**/" + "*a" * 500 + "b"])
    reached = globs.start()
    for _ in range(100):
        reached = globs.step(reached, "a" * 255)
    assert not globs.matches(reached)
