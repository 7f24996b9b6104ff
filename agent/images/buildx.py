"""The engine's own BuildKit, through the `docker-buildx` program and its `docker` driver.

Nothing of a build goes where others could read it: secrets are in the environment of the program, which its user
alone can see, and logins in a folder that goes with it. Builds may ask for no entitlement, so `RUN --network=host` and
`--security=insecure` are refused by BuildKit ("... is not allowed").
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from agent.errors import Unavailable
from agent.files import tree
from agent.images.builder import Built
from agent.images.progress import Masked, Messages, Progress
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.images.builder import BuildPlan, Write
    from agent.registries import Registries
    from agent.stop import Stop

PROGRAM = "docker-buildx"
# Where Docker looks for its plugins (docker/cli, cli-plugins/manager).
_PLUGINS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
# It shares the processors with the engine, which does the work: a context of 300 MB was built in a fifth less time with
# half of them for buildx, and with its garbage collected less often.
_GO = {"GOMAXPROCS": str(max(1, (os.cpu_count() or 1) // 2)), "GOGC": "400"}
_GRACE = 5.0  # seconds that buildx gets to tell the engine that a build was cancelled
_PREFIX = "ERROR: "
_BATCH = 256 * 1024  # bytes
_PAUSE = 20  # milliseconds without a message, after which those so far are written


def find_buildx(given: Path | None) -> Path | None:
    """The program: the given one, or on the path, or among Docker's plugins; None if there is none."""
    if given is not None:
        return given if os.access(given, os.X_OK) else None
    found = shutil.which(PROGRAM) or next(
        (path for folder in _PLUGINS if os.access(path := f"{folder}/{PROGRAM}", os.X_OK)), None
    )
    return Path(found) if found else None


@dataclass(frozen=True, kw_only=True)
class Buildx:
    """A `Builder`. `host` is the engine's socket; `node` tells BuildKit which contexts come from the same place.

    `folder` is for what goes with each build, its logins among it; what a kill left there goes with the next start.
    """

    folder: Path
    program: Path | None
    host: str
    node: str
    registries: Registries

    def __post_init__(self) -> None:
        """Begin with nothing."""
        tree.afresh(self.folder)

    async def build(self, plan: BuildPlan, write: Write, stop: Stop) -> Built:
        """See `Builder`."""
        if self.program is None:
            raise Unavailable(
                "This service cannot build images: there is no docker-buildx. An admin installs it (Debian 13: "
                "`apt install docker-buildx`), or names the program in images.buildx."
            )
        with tempfile.TemporaryDirectory(dir=self.folder) as private:
            folder = Path(private)
            await in_thread(self._furnish, folder, plan)
            program = await in_thread(self._start, folder, plan)
            return await _attended(program, plan, write, stop)

    def _furnish(self, folder: Path, plan: BuildPlan) -> None:
        self.registries.write_docker_config(folder)
        (folder / "buildx").mkdir()
        # A new one for each build would make buildx another node each time.
        (folder / "buildx" / ".buildNodeID").write_text(self.node)
        (folder / "policy.json").write_text(json.dumps(plan.source_policy))
        (folder / "empty").mkdir()
        if plan.request.dockerfile_text is not None:
            (folder / "Dockerfile").write_text(plan.request.dockerfile_text)

    def _start(self, folder: Path, plan: BuildPlan) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self.program), *_arguments(plan, folder)],
            env=self._environment(folder, plan),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def _environment(self, folder: Path, plan: BuildPlan) -> dict[str, str]:
        return {
            **{_variable(number): plan.secrets[name] for number, name in enumerate(plan.request.secrets)},
            "PATH": os.environ.get("PATH", os.defpath),  # for credential helpers
            "HOME": str(folder),
            "DOCKER_HOST": self.host if "://" in self.host else f"unix://{self.host}",
            "DOCKER_CONFIG": str(folder),
            "BUILDX_CONFIG": str(folder / "buildx"),
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
            "BUILDX_METADATA_PROVENANCE": "disabled",
            # Else it asks git about the context, and git runs what a repository's own configuration tells it to
            # (git-config(1), core.fsmonitor; gitremote-helpers(7), ext). Without a repository it would find nothing.
            "BUILDX_GIT_INFO": "false",
            "BUILDX_GIT_LABELS": "false",
            "GIT_DIR": str(folder / "empty"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY": str(folder / "policy.json"),
            **_GO,
        }


def _variable(number: int) -> str:
    return f"SIBLING_SECRET_{number}"


def _arguments(plan: BuildPlan, folder: Path) -> Iterator[str]:
    """Every option as one word with `=`, so that no value can become another option."""
    request = plan.request
    dockerfile = plan.dockerfile or folder / "Dockerfile"
    yield from ("build", "--builder=default", "--progress=rawjson", f"--file={dockerfile}")
    yield f"--network={request.network}"
    yield from (f"--build-arg={name}={value}" for name, value in request.build_args.items())
    yield from (f"--label={name}={value}" for name, value in request.image_labels.items())
    yield from (f"--secret=id={name},env={_variable(number)}" for number, name in enumerate(request.secrets))
    yield from (f"--cache-from={source}" for source in request.cache_from)
    yield from (f"--cache-to={target}" for target in request.cache_to)
    if request.platforms:
        yield f"--platform={','.join(request.platforms)}"
    if request.target is not None:
        yield f"--target={request.target}"
    if request.no_cache:
        yield "--no-cache"
    if request.pull:
        yield "--pull"
    if plan.cgroup_parent is not None:
        yield f"--cgroup-parent={plan.cgroup_parent}"
    if plan.export_to is not None:
        yield f"--output=type=tar,dest={plan.export_to}"
    else:
        yield f"--tag={plan.reference}"
    yield str(plan.context or folder / "empty")


async def _attended(program: subprocess.Popen[bytes], plan: BuildPlan, write: Write, stop: Stop) -> Built:
    """Read what it says until it ends, and end it when somebody asks."""
    ending = asyncio.create_task(_end_when_asked(program, stop))
    reading = asyncio.create_task(in_thread(_read, program, plan, write))
    try:
        await asyncio.wait({reading})
    finally:
        ending.cancel()
        if not reading.done():  # the service ends; its next start builds anew
            program.terminate()
            await asyncio.wait({reading})
    stop.check()
    return reading.result()


async def _end_when_asked(program: subprocess.Popen[bytes], stop: Stop) -> None:
    await stop.wait()
    program.send_signal(signal.SIGTERM)
    await asyncio.sleep(_GRACE)
    program.kill()


def _read(program: subprocess.Popen[bytes], plan: BuildPlan, write: Write) -> Built:
    messages, progress, masked = Messages(), Progress(), Masked(plan.secrets.values())
    raw = plan.request.progress == "json"
    with program:
        for lines in _batches(program.stderr):
            told: list[bytes] = []
            for status in filter(None, map(messages.feed, lines)):
                text = progress.take(status)
                told.append(json.dumps(masked.of(status), separators=(",", ":")).encode() + b"\n" if raw else text)
            write(b"".join(told))
    error = None if program.returncode == 0 else _last_word(messages.rest, program.returncode)
    return Built(steps=progress.steps(), bases=progress.bases(), error=error)


def _batches(output: IO[bytes] | None) -> Iterator[list[bytes]]:
    """The lines that came together. BuildKit sends many small messages, and each write wakes all who follow the log."""
    if output is None:
        return
    descriptor, rest = output.fileno(), b""
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while data := os.read(descriptor, _BATCH):
        while len(data) < _BATCH and ready.poll(_PAUSE) and (more := os.read(descriptor, _BATCH)):
            data += more
        whole, end, rest = (rest + data).rpartition(b"\n")
        yield [line + b"\n" for line in whole.split(b"\n")] if end else []
    if rest:
        yield [rest]


def _last_word(lines: list[str], code: int) -> str:
    """What buildx says of its end: from its error on, without the excerpt of the Dockerfile before it."""
    for number, line in enumerate(lines):
        if line.startswith(_PREFIX):
            return " ".join(each.strip() for each in lines[number:]).removeprefix(_PREFIX)
    return lines[-1] if lines else f"docker-buildx ended with {code} and said nothing"
