"""The Java that Jenkins agents run on: which one, and a runtime of it that needs nothing of the image it runs in.

A runtime is two folders: `jre`, and `lib` with the loader and all libraries (see `libraries`). From a JDK it is linked
with what agents may need; of a JRE it is a copy. It runs as
`lib/ld.so --inhibit-cache --library-path lib jre/bin/java`, wherever it is.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from functools import partial
from pathlib import Path

from agent.errors import InvalidSettings
from agent.toolkit import libraries
from agent.toolkit.inside import SHELL, TARGET
from agent.toolkit.programs import output_of

OLDEST = 17  # which the agents of Jenkins since 2.463 need
OURS = Path("/opt/sibling-service/jre")  # in our own image
MACHINES = Path("/usr/lib/jvm")

# All that the controller's classes may ask for when they run on an agent. No compiler, debugger or other tool: builds
# bring their own JDK. No jdk.localedata: it is a quarter of the whole, and agents do not write for people.
MODULES = (
    *("java.se", "jdk.charsets", "jdk.crypto.ec", "jdk.httpserver", "jdk.management", "jdk.naming.dns", "jdk.net"),
    *("jdk.security.auth", "jdk.security.jgss", "jdk.unsupported", "jdk.xml.dom", "jdk.zipfs"),
)
# Windows and sound; they would bring X11 with them.
_LEFT_OUT = ("libawt_xawt.so", "libjawt.so", "libjsound.so", "libsplashscreen.so")
# Of a JRE or JDK that is copied: what only developers need, and passwords for JMX, which not everyone can read.
_NOT_COPIED = (
    *("demo", "docs", "include", "jmods", "legal", "man", "sample", "ct.sym", "src.zip", "*.jsa", "jmxremote.*"),
    *_LEFT_OUT,
)
_BY_NAME = ("libstdc++.so.6",)  # which native libraries in the controller's jars ask for
_CERTIFICATES = Path("lib/security/cacerts")
_HELPER = Path("lib/jspawnhelper")
_ARCHIVE = Path("lib/server/classes.jsa")

# Java starts a process through this helper, which asks for a loader in the image. Its other ways to start one
# (jdk.lang.Process.launchMechanism) are no way out: of VFORK, JDK 25.0.3 says that it will go, and FORK takes 30 ms
# with a heap of 500 MB, against 2.4 ms for this.
_RUN_HELPER = f"""\
#!{" ".join(SHELL)}
exec {TARGET}/lib/{libraries.LOADER} --inhibit-cache --library-path {TARGET}/lib {TARGET}/jre/{_HELPER}.bin "$@"
"""

_run = partial(output_of, "A Java for agents")


def find_java(given: Path | None, *, ours: Path = OURS, machines: Path = MACHINES) -> Path:
    """The home of the given Java, else of our image's, else of the machine's newest; a JDK before a JRE.

    Raises InvalidSettings with the cure if the given one will not do, or if there is none.
    """
    if given is not None:
        if _version(given) < (OLDEST,):
            raise InvalidSettings(
                f"{given} is not the home of a Java from {OLDEST} on, which has the files release, bin/java and "
                "lib/modules. Set jenkins.java to one, or leave it out."
            )
        return given
    if _version(ours) >= (OLDEST,):
        return ours
    homes = {path.resolve() for path in machines.glob("*")}
    newest = max(homes, key=lambda home: (_version(home), _jlink(home).exists(), home.name), default=machines)
    if _version(newest) < (OLDEST,):
        raise InvalidSettings(
            f"There is no Java from {OLDEST} on in {machines}, which Jenkins agents run on. Run "
            f"`apt-get install openjdk-{OLDEST}-jdk-headless` (or a newer one), or set jenkins.java to its home."
        )
    return newest


def identity(java_home: Path) -> bytes:
    """What a runtime of this Java would be like: another Java, loader, set of certificates or recipe gives another.

    Raises InvalidSettings, OSError.
    """
    parts = [java_home / "release", java_home / _CERTIFICATES]
    made = _is_made(java_home)
    parts += sorted(made.glob("*.so*")) if made else [_loader(java_home)]
    parts += [Path(__file__), Path(libraries.__file__)]
    digest = hashlib.sha256()
    for path in parts:
        digest.update(hashlib.sha256(path.read_bytes() if path.exists() else b"").digest())
    return digest.digest()


def make_runtime(java_home: Path, folder: Path) -> None:
    """Make the runtime's two folders in an existing one. Takes seconds. Raises InvalidSettings, OSError."""
    jre, lib = folder / "jre", folder / "lib"
    made = _is_made(java_home)
    if made:
        shutil.copytree(java_home, jre, symlinks=True)
        shutil.copytree(made, lib, symlinks=True)
    else:
        _link(java_home, jre) if _can_link(java_home) else _copy(java_home, jre)
        _gather(jre, lib)
        _replace_helper(jre)
    if not (jre / _ARCHIVE).exists():
        _archive_classes(jre, lib)


def _version(home: Path) -> tuple[int, ...]:
    """Of the Java at a home; (0,) if there is none, or an older one than 9, which had no modules."""
    if not (home / "bin" / "java").is_file() or not (home / "lib" / "modules").is_file():
        return (0,)
    try:
        release = (home / "release").read_text(errors="replace")
    except OSError:
        return (0,)
    found = re.search(r'^JAVA_VERSION="([0-9.]+)', release, re.MULTILINE)
    return tuple(int(part) for part in found[1].strip(".").split(".")) if found else (0,)


def _jlink(java_home: Path) -> Path:
    return java_home / "bin" / "jlink"


def _is_made(java_home: Path) -> Path | None:
    """The libraries of a runtime that `make_runtime` has made elsewhere, as for our image; None for any other Java."""
    lib = java_home.parent / "lib"
    return lib if (lib / libraries.LOADER).exists() else None


def _can_link(java_home: Path) -> bool:
    """Whether it is a JDK with its modules in files, or one that is linked from itself (JEP 493)."""
    if not _jlink(java_home).exists():
        return False
    return (java_home / "jmods").is_dir() or "run-time image enabled" in _run([_jlink(java_home), "--help"])


def _link(java_home: Path, jre: Path) -> None:
    there = {line.partition("@")[0] for line in _run([java_home / "bin" / "java", "--list-modules"]).split()}
    modules = {"java.se", *there.intersection(MODULES)}  # of the rest, some are taken into java.base in time
    _run(
        [
            *(_jlink(java_home), "--output", jre, "--add-modules", ",".join(sorted(modules))),
            *("--strip-java-debug-attributes", "--no-header-files", "--no-man-pages"),
            *("--exclude-files", ",".join(f"**/{name}" for name in _LEFT_OUT)),
        ]
    )
    if (java_home / _CERTIFICATES).exists():  # those of the machine, where admins add their own
        shutil.copyfile(java_home / _CERTIFICATES, jre / _CERTIFICATES)


def _copy(java_home: Path, jre: Path) -> None:
    """Links become what they lead to: half of a home from Debian is in /etc."""
    named = shutil.ignore_patterns(*_NOT_COPIED)

    def unwanted(folder: str, names: list[str]) -> set[str]:
        tools = {name for name in names if name != "java"} if folder == str(java_home / "bin") else set()
        return tools | named(folder, names)

    shutil.copytree(java_home, jre, ignore=unwanted, ignore_dangling_symlinks=True)


def _loader(java_home: Path) -> Path:
    return libraries.loader_of(java_home / "bin" / "java", "Set jenkins.java to a Java for glibc.")


def _gather(jre: Path, lib: Path) -> None:
    loader = _loader(jre)
    files = (jre / "bin" / "java", jre / _HELPER, *jre.rglob("*.so"))
    inside = (jre / "lib", jre / "lib" / "server")
    found = libraries.needed(loader, files, beside=inside, by_name=_BY_NAME)
    libraries.gather(loader, (path for path in found if not path.is_relative_to(jre)), lib)
    libraries.add_locales(lib)


def _replace_helper(jre: Path) -> None:
    (jre / _HELPER).rename(jre / f"{_HELPER}.bin")
    (jre / _HELPER).write_text(_RUN_HELPER)
    (jre / _HELPER).chmod(0o755)


def _archive_classes(jre: Path, lib: Path) -> None:
    """The JDK's own classes, mapped instead of read, as its makers do it. It shows as well that the runtime runs."""
    java = (lib / libraries.LOADER, "--inhibit-cache", "--library-path", lib, jre / "bin" / "java")
    # A crash of the JVM is told on its standard output; its report would be left in our working folder.
    _run([*java, "-Xshare:dump", "-Xmx128m", "-XX:+UseG1GC", "-XX:ErrorFile=/dev/null"])
