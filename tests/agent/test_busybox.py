"""A busybox that needs the image's own loader would fail in other images, so only a static one will do."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.busybox import find_static_busybox, is_static
from agent.errors import InvalidSettings


def test_the_one_that_is_found_runs_without_any_library(tmp_path):
    """In an empty root folder there is neither loader nor library."""
    shutil.copy(find_static_busybox(), tmp_path / "busybox")
    told = subprocess.run(
        [shutil.which("chroot") or "/usr/sbin/chroot", tmp_path, "/busybox", "echo", "runs"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "runs\n"


def test_a_program_with_a_loader_is_not_static():
    assert not is_static(Path(sys.executable).resolve())


def test_the_first_place_that_holds_a_static_one_is_taken(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    places = [tmp_path / "gone", tmp_path, script, Path(sys.executable).resolve(), find_static_busybox()]
    assert find_static_busybox(places) == places[-1]
    with pytest.raises(InvalidSettings, match="apt-get install busybox-static"):
        find_static_busybox(places[:-1])


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x7fELF", b"\x7fELF\x02\x01"]))
def test_no_other_file_is_taken_for_a_static_program(tmp_path_factory, content, magic):
    path = tmp_path_factory.mktemp("b") / "file"
    path.write_bytes(magic + content)
    if is_static(path):
        # Only if there is a whole table of segments in it, none of them naming a loader.
        data = path.read_bytes()
        (offset,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
        assert offset + size * count <= len(data)
