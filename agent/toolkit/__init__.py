"""The toolkit: what a build's container gets of Sibling, mounted read-only at /opt/sibling, whatever image it runs.

It is a static busybox with its applets, `enter`, which every container starts with, and `sibling` with a Python of its
own. Nothing of the image is needed, so that an image without a shell can be built in as well. It is a folder of the
data volume, one per content, and is mounted as a part of that volume. The toolkit of a Jenkins agent has the same and
Java (see `agents`).

    inside          where things are in a container
    python          the Python for `sibling`, a copy of ours (bytecode: its library and the client, compiled)
    agent_command   what `enter` reads to become an agent
    agents          the agents' toolkit as a folder
    java            which Java, and a runtime of it
    libraries       what a Python or Java needs of this machine, to need nothing of the image (elf: which loader)
    programs        how programs are run to make all this
    jar_cache       the jars that a controller would send to each new agent
    folders         how all these folders are made
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

from agent.errors import AgentError, InvalidRequest
from agent.toolkit import folders, python
from agent.toolkit.agent_command import agent_task, wrapped
from agent.toolkit.inside import HOME, SHELL, SHELL_SCRIPT, TARGET, USE_HOME, WORKSPACE

if TYPE_CHECKING:
    from pathlib import Path

    from agent.requests import BuildRequest

__all__ = [
    "ENTRYPOINT",
    "HOME",
    "MAX_TASK",
    "SHELL_SCRIPT",
    "TARGET",
    "WORKSPACE",
    "agent_task",
    "install",
    "task",
    "wrapped",
]

MAX_TASK = 200_000  # bytes that an engine's socket holds for a container before its start
ENTRYPOINT = (*SHELL, f"{TARGET}/enter")

# Reads its task from standard input, which no `docker inspect` shows, then runs it as a child. It stays, to tell a
# build that was stopped from one that ended by itself: a build that catches TERM and exits 0 while the engine is being
# stopped did not succeed. It looks for the program itself, since this busybox would take its own applet of that name
# before the image's program. The child is not in the background, where a shell would make it ignore SIGINT; docker-init
# signals the whole group.
_ENTER = f"""\
_sibling_task=$({TARGET}/bin/busybox cat)
eval "$_sibling_task"
unset _sibling_task
if [ $# -eq 0 ]; then
    echo "[sibling] the build's task did not arrive" >&2
    exit 125
fi
exec </dev/null
{USE_HOME}export PATH="${{PATH:+$PATH:}}{TARGET}/bin"
if ! cd -- "$_sibling_workdir"; then
    echo "[sibling] the working directory $_sibling_workdir is not there" >&2
    exit 125
fi
_sibling_name=$1
shift
case $_sibling_name in
*/*) _sibling_program=$_sibling_name ;;
*)
    _sibling_program=
    IFS=:
    for _sibling_dir in $PATH; do
        if [ -z "$_sibling_program" ] && [ -f "$_sibling_dir/$_sibling_name" ] && [ -x "$_sibling_dir/$_sibling_name" ]
        then
            _sibling_program=$_sibling_dir/$_sibling_name
        fi
    done
    unset IFS
    if [ -z "$_sibling_program" ]; then
        echo "[sibling] $_sibling_name is not in the image: nothing of that name in $PATH" >&2
        exit 127
    fi
    ;;
esac
unset TINI_KILL_PROCESS_GROUP
_sibling_stopped=
trap '_sibling_stopped=143' TERM
(exec "$_sibling_program" "$@")
_sibling_code=$?
exit "${{_sibling_stopped:-$_sibling_code}}"
"""


def task(request: BuildRequest, secrets: dict[str, str]) -> bytes:
    """What `enter` reads from standard input: the secrets' values, the folder and the command, as shell source.

    Raises InvalidRequest if it is longer than `MAX_TASK`.
    """
    lines = [f"export {name}={shlex.quote(secrets[name])}" for name in request.secrets]
    # A relative folder is below the workspace; joining keeps an absolute one.
    lines.append(f"_sibling_workdir={shlex.quote(os.path.normpath(os.path.join(WORKSPACE, request.workdir)))}")  # noqa: PTH118 - a path in the container, which may climb
    argv = request.argv if request.commands is None else ["sh", "-e", "-c", "\n".join(request.commands)]
    lines.append("set -- " + " ".join(map(shlex.quote, argv or ())))
    text = ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
    if len(text) > MAX_TASK:
        raise InvalidRequest(f"commands and secrets take {len(text)} bytes once quoted, over {MAX_TASK}; use a source")
    return text


def install(data_dir: Path, busybox: Path, client: bytes, program: Path | None = None) -> str:
    """Put the toolkit into the data folder if it is not there; returns its path below it, such as `toolkit/3f2a...`.

    `client` is the zipapp of `sibling`, and `program` the Python that is copied for it, by default our own. Each
    content has a folder of its own, so that builds of an older service keep theirs. The first one with a Python takes
    a second or two. Raises InvalidSettings if the Python cannot be copied, AgentError if the disk refuses.
    """
    try:
        source = python.examine(program or python.ours())
        identity = python.identity(source)
        runtime = folders.have(data_dir, folders.digest(identity), lambda made: python.make_runtime(source, made))

        def fill(made: Path) -> None:
            _add_busybox(made, busybox)
            folders.add(data_dir / runtime, made)
            python.add_client(made, client)

        parts = (busybox.read_bytes(), _ENTER.encode(), identity, client)
        return folders.have(data_dir, folders.digest(*parts), fill)
    except OSError as error:
        raise AgentError(f"The builds' toolkit could not be made: {error}") from error


def _add_busybox(folder: Path, busybox: Path) -> None:
    (folder / "bin").mkdir()
    program = folder / "bin" / "busybox"
    shutil.copyfile(busybox, program)
    program.chmod(0o755)
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (folder / "bin" / applet).symlink_to("busybox")
    (folder / "enter").write_text(_ENTER)
    (folder / "enter").chmod(0o755)
