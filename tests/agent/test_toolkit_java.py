"""The right Java is found, and what is made of it runs with nothing of the machine it was made on."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.errors import InvalidSettings
from agent.toolkit import elf, folders, java


def home_of(folder, version, *, jlink=False):
    """A folder that looks like a Java."""
    for part in ("bin/java", "lib/modules", *(["bin/jlink"] if jlink else [])):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).touch()
    (folder / "release").write_text(f'IMPLEMENTOR="Someone"\nJAVA_VERSION="{version}"\nOS_ARCH="x86_64"\n')
    return folder


def test_the_newest_of_the_machine_is_taken_and_a_jdk_before_a_jre(tmp_path):
    for name, version in [("a", "17.0.15"), ("b", "21.0.9"), ("c", "21.0.10"), ("x", "1.8.0_402"), ("y", "11.0.2")]:
        home_of(tmp_path / name, version)
    jdk = home_of(tmp_path / "0", "21.0.10", jlink=True)
    (tmp_path / "zz").symlink_to(tmp_path / "b")
    (tmp_path / "openjdk-99").mkdir()
    (tmp_path / "openjdk-99" / "src.zip").touch()
    assert java.find_java(None, ours=tmp_path / "gone", machines=tmp_path) == jdk


def test_our_images_own_goes_before_the_machines_and_the_given_one_before_all(tmp_path):
    ours, given = home_of(tmp_path / "ours", "17"), home_of(tmp_path / "given", "17.0.1")
    machines = tmp_path / "machines"
    home_of(machines / "new", "25.0.3")
    assert java.find_java(None, ours=ours, machines=machines) == ours
    assert java.find_java(given, ours=ours, machines=machines) == given


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_402", "", "x"])
def test_a_given_one_that_is_too_old_or_none_is_refused_by_its_name(tmp_path, version):
    with pytest.raises(InvalidSettings, match=r"given is not the home of a Java from 17 on.*jenkins\.java"):
        java.find_java(home_of(tmp_path / "given", version))
    with pytest.raises(InvalidSettings, match="gone is not the home"):
        java.find_java(tmp_path / "gone")


@pytest.mark.parametrize("folder", ["empty", "gone"])
def test_where_there_is_none_the_cure_is_told(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    home_of(tmp_path / "empty" / "old", "11.0.2")
    with pytest.raises(InvalidSettings, match="apt-get install openjdk-17-jdk-headless"):
        java.find_java(None, ours=tmp_path / "none", machines=tmp_path / folder)


def test_scripts_and_service_find_the_same_one(jdk):
    assert java.find_java(None, ours=Path("/nowhere")) == jdk


def test_another_java_or_other_certificates_are_another_runtime(tmp_path, jdk):
    home = home_of(tmp_path / "jdk", "21.0.1")
    shutil.copy(jdk / "bin" / "java", home / "bin" / "java")
    seen = [java.identity(home), java.identity(home)]
    (home / "lib" / "security").mkdir()
    (home / "lib" / "security" / "cacerts").write_text("a certificate")
    seen.append(java.identity(home))
    (home / "release").write_text('JAVA_VERSION="21.0.2"')
    seen.append(java.identity(home))
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + bytes(58)])
def test_a_java_that_is_no_program_is_refused(tmp_path, content):
    home = home_of(tmp_path / "jdk", "21.0.1")
    (home / "bin" / "java").write_bytes(content)
    with pytest.raises(InvalidSettings, match="bin/java"):
        java.identity(home)


def test_a_java_for_another_libc_is_refused(tmp_path, jdk):
    """As musl's is, by its loader."""
    home = home_of(tmp_path / "jdk", "21.0.1")
    program = (jdk / "bin" / "java").read_bytes()
    loader = elf.interpreter(jdk / "bin" / "java").encode()
    (home / "bin" / "java").write_bytes(program.replace(loader, b"/lib/ld-musl.so.1".ljust(len(loader), b"\0")))
    with pytest.raises(InvalidSettings, match=r"another C library than glibc.*/lib/ld-musl\.so\.1"):
        java.identity(home)


def folder(path):
    path.mkdir(parents=True)
    return path


def java_of(made, *options, chroot=()):
    """How the Java of a runtime ends; for `chroot`, `made` is where it is seen from there."""
    program = [f"{made}/lib/ld.so", "--inhibit-cache", "--library-path", f"{made}/lib", f"{made}/jre/bin/java"]
    return subprocess.run([*chroot, *program, *options], capture_output=True, text=True, env={}, check=False)


@pytest.fixture
def alone(runtime, tmp_path):
    """The runtime in a root folder that has nothing else, at /opt/java."""
    return shutil.copytree(runtime, tmp_path / "root" / "opt" / "java", symlinks=True)


def test_it_runs_where_there_is_nothing_else_and_maps_its_own_classes(alone):
    chroot = ["/usr/sbin/chroot", alone.parents[1]]
    told = java_of("/opt/java", "-Xshare:on", "-Xlog:class+load", "--version", chroot=chroot)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "java.lang.Object source: shared objects file" in told.stdout


def test_it_has_what_agents_need_and_no_tool_for_developers(alone):
    modules = {line.partition("@")[0] for line in java_of(alone, "--list-modules").stdout.split()}
    assert {"java.se", "java.net.http", "java.desktop", "jdk.unsupported", "jdk.zipfs"} <= modules
    assert not {"jdk.compiler", "jdk.jlink", "jdk.jdi", "jdk.localedata"} & modules
    libraries_there = {path.name for path in alone.rglob("*.so*")}
    assert {"libc.so.6", "libpthread.so.0", "libdl.so.2", "libjvm.so", "ld.so"} <= libraries_there
    assert not [name for name in libraries_there if name.startswith(("libX", "libxcb", "libawt_xawt"))]


def test_the_machines_certificates_are_in_it(runtime, jdk):
    assert (runtime / "jre" / java._CERTIFICATES).read_bytes() == (jdk / java._CERTIFICATES).read_bytes()


def test_what_was_made_for_our_image_is_taken_as_it_is(alone, tmp_path):
    (alone / "jre" / java._ARCHIVE).unlink()  # which the image leaves out
    java.make_runtime(alone / "jre", made := folder(tmp_path / "made"))
    assert java_of(made, "-Xshare:on", "--version").returncode == 0
    assert (made / "lib" / "ld.so").readlink() == (alone / "lib" / "ld.so").readlink()
    assert (made / "jre" / java._HELPER).read_text() == java._RUN_HELPER


def test_of_a_jre_a_copy_is_made_without_its_tools_and_with_what_its_links_lead_to(runtime, tmp_path):
    jre, elsewhere = tmp_path / "jre", tmp_path / "etc"
    shutil.copytree(runtime / "jre", jre)
    (jre / f"{java._HELPER}.bin").replace(jre / java._HELPER)
    (jre / "conf").rename(elsewhere)
    (jre / "conf").symlink_to(elsewhere)
    (jre / "docs").symlink_to(tmp_path / "gone")
    java.make_runtime(jre, made := folder(tmp_path / "made"))
    assert java_of(made, "-Xshare:on", "--version").returncode == 0
    assert [path.name for path in (made / "jre" / "bin").iterdir()] == ["java"]
    assert (made / "jre" / "conf" / "net.properties").is_file()
    assert not (made / "jre" / "conf").is_symlink()
    assert not (made / "jre" / "docs").exists()


def test_a_java_that_does_not_run_is_told_with_its_own_words(runtime, tmp_path):
    jre = tmp_path / "jre"
    shutil.copytree(runtime / "jre", jre)
    (jre / f"{java._HELPER}.bin").replace(jre / java._HELPER)
    (jre / "lib" / "modules").write_bytes(b"half")
    with pytest.raises(InvalidSettings, match=r"(?s)A Java for agents could not be made: .*-Xshare:dump.* failed: ."):
        java.make_runtime(jre, folder(tmp_path / "made"))


def test_of_a_maker_that_was_killed_nothing_is_taken_for_a_runtime(jdk, tmp_path):
    source = f"""
from pathlib import Path
from agent.toolkit import folders, java
folders.have(Path({str(tmp_path)!r}), "digest", lambda made: java.make_runtime(Path({str(jdk)!r}), made))
"""
    with subprocess.Popen([sys.executable, "-c", source], start_new_session=True) as maker:
        while not list(tmp_path.glob("toolkit/tmp*/jre/lib/*")):
            assert maker.poll() is None
        os.killpg(maker.pid, signal.SIGKILL)
    assert not (tmp_path / "toolkit" / "digest").exists()
    assert folders.have(tmp_path, "digest", lambda made: (made / "whole").touch()) == "toolkit/digest"
    assert {path.relative_to(tmp_path / "toolkit") for path in tmp_path.glob("toolkit/**/*")} == {
        Path("digest"),
        Path("digest/whole"),
    }


def test_of_many_makers_at_once_one_makes_it(tmp_path):
    made = []

    def fill(folder):
        made.append(folder)
        (folder / "whole").touch()

    with ThreadPoolExecutor(8) as makers:
        paths = set(makers.map(lambda _: folders.have(tmp_path, "digest", fill), range(8)))
    assert paths == {"toolkit/digest"}
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "toolkit").iterdir()] == ["digest"]
