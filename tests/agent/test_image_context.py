"""Contexts of hostile or huge workspaces: nothing of the service's own gets in, and nothing hangs."""

import os
import threading

import pytest

from agent.builds import Build, BuildState
from agent.errors import SourceFailed
from agent.files.sources import Sources
from agent.files.workspace import Workspaces
from agent.images.context import Contexts
from agent.requests import ImageBuildRequest
from agent.settings import SourceSettings
from agent.stop import Stop, Stopped

PARENT, CHILD = "0" * 26, "1" * 26


class Log:
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class Held:
    """What of a `Held` a context needs."""

    def __init__(self, request, build_id=CHILD):
        self.build = Build(
            id=build_id, state=BuildState.PREPARING, request=request, created_by="ci", created_at=0, parent=PARENT
        )
        self.stop = Stop()
        self.log = Log()
        self.secrets = {}


class Place:
    def __init__(self, folder, **settings):
        self.workspaces = Workspaces(folder / "workspaces")
        self.workspace = self.workspaces.make(PARENT)
        self.folder = folder / "contexts"
        parsed = SourceSettings(**settings)
        self.contexts = Contexts(
            folder=self.folder, workspaces=self.workspaces, sources=Sources(folder / "sources", parsed), settings=parsed
        )
        (self.workspace / "Dockerfile").write_text("FROM scratch\n")

    def held(self, path=".", build_id=CHILD, **parts):
        return Held(ImageBuildRequest(context={"type": "workspace", "path": path}, **parts), build_id)

    def make(self, path=".", **parts):
        held = self.held(path, **parts)
        return self.contexts.make(held, held.build.request)

    def assert_nothing_left(self):
        self.contexts.remove(CHILD)
        assert list(self.folder.iterdir()) == []


@pytest.fixture
def place(tmp_path):
    (tmp_path / "secret").write_text("the service's own")
    return Place(tmp_path)


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_workspace_is_taken_without_copying_a_byte(place):
    (place.workspace / "src").mkdir(mode=0o750)
    (place.workspace / "src" / "main.c").write_text("int main;")
    (place.workspace / "link").symlink_to("src/main.c")
    context = place.make()
    assert files_of(context.folder) == ["Dockerfile", "link", "src", "src/main.c"]
    assert (context.folder / "src" / "main.c").samefile(place.workspace / "src" / "main.c")
    assert (context.folder / "link").readlink() == (place.workspace / "link").readlink()
    assert (context.folder / "src").stat().st_mode & 0o777 == 0o750
    assert context.dockerfile == context.folder / "Dockerfile"
    place.contexts.remove(CHILD)
    place.assert_nothing_left()
    assert (place.workspace / "src" / "main.c").read_text() == "int main;"


def test_the_same_caller_and_folder_come_to_the_same_path_but_two_at_once_do_not(place):
    first = place.make()
    second = place.make(build_id="2" * 26)
    assert first.folder != second.folder
    place.contexts.remove(CHILD)
    place.contexts.remove("2" * 26)
    assert place.make(build_id="3" * 26).folder == first.folder


@pytest.mark.parametrize("path", ["..", "a/../..", "/", "/etc", "out", "out/sub", "missing", "Dockerfile", "in"])
def test_a_path_that_leads_out_or_nowhere_is_refused(place, path, tmp_path):
    (place.workspace / "out").symlink_to(tmp_path)
    (place.workspace / "real").mkdir()
    (place.workspace / "in").symlink_to("real")
    with pytest.raises(SourceFailed):
        place.make(path)
    place.assert_nothing_left()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", "../contexts", "missing"])
def test_a_dockerfile_that_is_a_link_out_is_refused(place, target):
    (place.workspace / "Dockerfile").unlink()
    (place.workspace / "Dockerfile").symlink_to(target)
    with pytest.raises(SourceFailed, match=r"leads out|no file"):
        place.make()
    place.assert_nothing_left()


def test_a_dockerfile_may_be_a_link_within(place):
    (place.workspace / "real").write_text("FROM scratch\n")
    (place.workspace / "Linked").symlink_to("real")
    context = place.make(dockerfile="Linked")
    assert context.dockerfile == context.folder / "real"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "sub/../../x"])
def test_a_dockerfile_outside_is_refused(place, name, tmp_path):
    (tmp_path / "workspaces" / "outside").write_text("FROM scratch\n")
    with pytest.raises(SourceFailed, match=r"leads out|no file"):
        place.make(dockerfile=name)


def test_what_a_link_in_the_context_leads_to_is_not_in_it(place, tmp_path):
    (place.workspace / "passwd").symlink_to("/etc/passwd")
    (place.workspace / "data").symlink_to(tmp_path)
    context = place.make()
    assert files_of(context.folder) == ["Dockerfile", "data", "passwd"]
    assert (context.folder / "passwd").is_symlink()
    assert (context.folder / "data").is_symlink()


def test_a_fifo_and_a_socket_are_left_out_and_told(place):
    os.mkfifo(place.workspace / "pipe")
    os.mknod(place.workspace / "null", 0o600 | 0o020000, os.makedev(1, 3))
    held = place.held()
    context = place.contexts.make(held, held.build.request)
    assert files_of(context.folder) == ["Dockerfile"]
    assert {note.rpartition(" ")[2] for note in held.log.notes} == {"pipe", "null"}


def test_a_hundred_thousand_files_are_taken(place):
    for number in range(100):
        folder = place.workspace / f"d{number}"
        folder.mkdir()
        for name in range(1000):
            os.mknod(folder / str(name))
    context = place.make()
    assert sum(len(files) for _, _, files in os.walk(context.folder)) == 100_001


@pytest.mark.parametrize(
    ("settings", "words"), [({"max_files": 3}, "sources.max_files"), ({"max_unpacked": 1000}, "sources.max_unpacked")]
)
def test_too_much_is_refused_by_the_settings_name(tmp_path, settings, words):
    place = Place(tmp_path, **settings)
    for number in range(5):
        (place.workspace / str(number)).write_text("x" * 300)
    with pytest.raises(SourceFailed, match=words):
        place.make()
    place.assert_nothing_left()


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(place, tmp_path):
    """A build swaps a folder for a link, over and over, while its context is taken."""
    for number in range(300):
        folder = place.workspace / f"d{number:03}"
        folder.mkdir()
        (folder / "file").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("the service's own")
    inside, over = place.workspace / "d150", threading.Event()

    def swap():
        while not over.is_set():
            inside.rename(tmp_path / "aside")
            inside.symlink_to(tmp_path / "outside")
            inside.unlink()
            (tmp_path / "aside").rename(inside)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(20):
            try:
                context = place.make()
            except SourceFailed:
                continue
            contents = [path.read_text() for path in context.folder.glob("*/file") if not path.parent.is_symlink()]
            place.contexts.remove(CHILD)
            assert set(contents) == {""}
    finally:
        over.set()
        swapper.join()
    place.assert_nothing_left()


def test_a_stop_ends_it(place):
    held = place.held()
    held.stop.ask("cancelled")
    with pytest.raises(Stopped):
        place.contexts.make(held, held.build.request)
    place.assert_nothing_left()


def test_what_an_earlier_life_left_is_removed(place, tmp_path):
    place.make()
    Contexts(
        folder=place.folder, workspaces=place.workspaces, sources=place.contexts.sources, settings=SourceSettings()
    )
    place.assert_nothing_left()
