"""The toolkit of Jenkins agents: the builds' own, a runtime of Java, and the controller's agent program.

Each part is shared, by hard links, with the folder that it was made as: a new agent program costs its own size, and not
the seconds that a runtime takes. A start after a kill finds whole folders only (see `folders`), and goes on from those.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

from agent.errors import AgentError
from agent.toolkit import folders, java
from agent.toolkit.inside import AGENT_JAR, ARCHIVE, SHELL

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ARCHIVE", "MAX_ARCHIVE", "adopt_archive", "install_agent"]

MAX_ARCHIVE = 256 * 1024**2  # bytes
_MADE_AT = 946_684_800  # a JVM uses an archive of classes only with a jar of the very time that it was made with
# For the `sh` step of pipelines, which starts all with it; Debian's busybox lacks it. This shell would take its
# own applet of a name before the program of the image, so that is looked for here.
_NOHUP = f"""\
#!{" ".join(SHELL)}
trap '' HUP
case $1 in
*/*) exec "$@" ;;
esac
program=$1
shift
IFS=:
for folder in $PATH; do
    if [ -f "$folder/$program" ] && [ -x "$folder/$program" ]; then
        unset IFS
        exec "$folder/$program" "$@"
    fi
done
echo "nohup: $program is not in $PATH" >&2
exit 127
"""


def install_agent(data_dir: Path, base: str, java_home: Path, agent_jar: bytes) -> str:
    """Put the agent toolkit into the data folder if it is not there; returns its path below it.

    `base` is the builds' toolkit, as `toolkit.install` returned it. The first one with a Java takes seconds. Raises
    InvalidSettings if no runtime can be made of the Java, AgentError if the disk refuses.
    """
    try:
        source = java.identity(java_home)
        runtime = folders.have(data_dir, folders.digest(source), lambda made: java.make_runtime(java_home, made))

        def fill(made: Path) -> None:
            folders.add(data_dir / base, made)
            folders.add(data_dir / runtime, made)
            _add_program(made, agent_jar)

        return folders.have(data_dir, folders.digest(base.encode(), source, agent_jar, _NOHUP.encode()), fill)
    except OSError as error:
        raise AgentError(f"The agents' toolkit could not be made: {error}") from error


def adopt_archive(data_dir: Path, agent_toolkit: str, archive: Path) -> None:
    """Take an archive of classes that `agent_task(archive_to=...)` left into the toolkit it was made with.

    It is there whole or not at all, also after a power cut: a JVM would die of a part of it. Agents that run already go
    on as they are. Raises AgentError if there is none or it is too large, or if the disk refuses.
    """
    try:
        source = os.open(archive, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(source, "rb") as content, folders.making(data_dir) as made:
            status = os.fstat(source)
            if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= MAX_ARCHIVE:
                raise AgentError(f"{archive} is no archive of an agent's classes: {status.st_size} bytes")
            with (made / ARCHIVE).open("xb") as copy:
                shutil.copyfileobj(content, copy)
                os.fchmod(copy.fileno(), 0o644)
                os.fsync(copy.fileno())
            (made / ARCHIVE).replace(data_dir / agent_toolkit / ARCHIVE)
    except OSError as error:
        raise AgentError(f"The archive of the agent's classes could not be kept: {error}") from error


def _add_program(folder: Path, agent_jar: bytes) -> None:
    (folder / AGENT_JAR).write_bytes(agent_jar)
    os.utime(folder / AGENT_JAR, (_MADE_AT, _MADE_AT))
    nohup = folder / "bin" / "nohup"
    if not nohup.is_symlink():
        nohup.write_text(_NOHUP)
        nohup.chmod(0o755)
