"""Images from inside of a container: by the service without a socket, against Docker with the engine's own.

All on a throw-away engine, so that neither the caches nor the images of the one in use are changed. The other side is
a container of the same image in which docker, buildx and the socket are mounted.
"""

from __future__ import annotations

import io
import random
import statistics
import tarfile
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.shells import SCRIPT, Shell
from bench.throwaway import throwaway_engine
from tests.e2e.harness import BUSYBOX, ServiceProcess, until
from tests.e2e.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.throwaway import Engine

FILES, SIZE = 400, 125_000  # 50 MB
ROUNDS = {"noop": 12, "cold": 6, "push": 6, "empty": 3}
# With a new ROUND each step is new.
DOCKERFILE = f"""FROM {BUSYBOX}
ARG ROUND
COPY . /src/$ROUND/
RUN find /src -type f | sort | xargs sha256sum >/sums
RUN tar -cf - /src | gzip -1 | wc -c >/size
"""
LAYER = f"FROM {BUSYBOX}\\nARG ROUND\\nRUN echo $ROUND; head -c 64m /dev/urandom >/layer\\n"


@dataclass(frozen=True, kw_only=True)
class Side:
    """Who builds: its shell is in a folder with the context in `app`."""

    name: str
    shell: Shell
    build: str
    push: str

    def rebuild(self, _: int) -> float:
        """With nothing new."""
        return self.shell.run(f"cd app && {self.build} -t bench/app:1 --build-arg ROUND=0 .")

    def build_anew(self, number: int) -> float:
        """With each step new."""
        return self.shell.run(f"cd app && {self.build} -t bench/app:1 --build-arg ROUND={self.name}-{number} .")

    def push_layer(self, number: int, registry: str) -> float:
        """An image that was built before, with a layer that nobody has yet."""
        image = f"{registry}/bench/{self.name}:{number}"
        self.shell.run(f"printf '{LAYER}' | {self.build} -t {image} --build-arg ROUND={self.name}-{number} -")
        return self.shell.run(f"{self.push} {image}")


def images(_: str, rounds: int) -> dict[str, Any]:
    """Rebuild, build and push, each in turn with the other side; then the same build on an empty cache."""
    most = {name: min(rounds, count) for name, count in ROUNDS.items()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = stack.enter_context(throwaway_engine())
        registry = stack.enter_context(Registry(folder / "registry"))
        ours = stack.enter_context(_ours(folder / "ours", engine, registry.address))
        theirs = stack.enter_context(_theirs(folder / "theirs", engine))
        results = _in_turn("noop", most["noop"], ours.rebuild, theirs.rebuild)
        on_host = [_on_host(folder / "theirs/app", engine) for _ in range(most["noop"] + 1)][1:]
        results |= {"noop_host_ms": 1000 * statistics.median(on_host)}
        results |= _in_turn("cold", most["cold"], ours.build_anew, theirs.build_anew)
        results |= _in_turn(
            "push",
            most["push"],
            lambda number: ours.push_layer(number, registry.address),
            lambda number: theirs.push_layer(number, registry.address),
        )
        empty = [_on_empty_cache(engine, theirs) for _ in range(most["empty"])]
    results |= {"empty_ms": 1000 * statistics.median(empty)}
    return results | {"warm_advantage": results["empty_ms"] / results["noop_ms"]}


def _in_turn(name: str, rounds: int, ours: Callable[[int], float], theirs: Callable[[int], float]) -> dict[str, Any]:
    taken: dict[Callable[[int], float], list[float]] = {ours: [], theirs: []}
    for number in range(rounds + 1):
        for work in (ours, theirs) if number % 2 else (theirs, ours):  # each is as often the first
            taken[work].append(work(number))
    pairs = list(zip(taken[ours], taken[theirs], strict=True))[1:]  # the first one warms up
    return {
        f"{name}_ms": 1000 * statistics.median(mine for mine, _ in pairs),
        f"{name}_docker_ms": 1000 * statistics.median(other for _, other in pairs),
        f"{name}_ratio": statistics.median(mine / other for mine, other in pairs),
    }


def _on_host(context: Path, engine: Engine) -> float:
    """The same rebuild with no container around it."""
    begin = time.perf_counter()
    engine.docker("buildx", "build", "-t", "bench/app:1", "--build-arg", "ROUND=0", "--quiet", str(context))
    return time.perf_counter() - begin


def _on_empty_cache(engine: Engine, side: Side) -> float:
    """What an engine of its own for each build has to do; its start and the base image's pull are not in it."""
    engine.docker("buildx", "prune", "--all", "--force")
    seconds = side.rebuild(0)
    if side.shell.output().count(" CACHED\n") > 1:  # the base image always is
        raise RuntimeError(f"the cache was not empty:\n{side.shell.output()}")
    return seconds


@contextmanager
def _ours(folder: Path, engine: Engine, registry: str) -> Iterator[Side]:
    """A build of a service of its own that goes on all the while, with the context as its source."""
    folder.mkdir()
    service = ServiceProcess(
        folder,
        engine.host,
        config=f'[grants.bench]\ntokens = ["admin"]\npush = ["{registry}/**"]\n',
        images__buildx=engine.tools / "path/docker-buildx",
    )
    try:
        service.start()
        source = service.client.put("/v1/sources", content=_context()).raise_for_status().json()["id"]
        build = service.post(commands=[SCRIPT], source={"type": "uploaded", "id": source})
        workspace = service.data / "workspaces" / build
        until(lambda: service.build(build)["state"] == "running", what="the build")
        with closing(Shell(workspace)) as shell:
            yield Side(name="ours", shell=shell, build="sibling image build", push="sibling image push")
    finally:
        service.destroy()


@contextmanager
def _theirs(folder: Path, engine: Engine) -> Iterator[Side]:
    """A container as people make it who give builds the socket."""
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(_context())) as tar:
        tar.extractall(folder, filter="data")
    # Docker's programs are this machine's, with the libraries that they need.
    mounts = [f"{path}:{path}:ro" for path in ("/lib", "/lib64", engine.tools)]
    container = engine.docker(
        *("run", "--detach", f"--volume={folder}:/workspace", "--workdir=/workspace"),
        *(f"--volume={each}" for each in [*mounts, f"{engine.socket}:/var/run/docker.sock"]),
        *(f"--env=DOCKER_CONFIG={engine.tools}/config", "--env=BUILDX_CONFIG=/tmp/buildx"),
        *(f"--env=PATH={engine.tools}/path:/bin", BUSYBOX, "sh", "-c", SCRIPT),
    )
    try:
        with closing(Shell(folder)) as shell:
            yield Side(name="docker", shell=shell, build="docker buildx build", push="docker push")
    finally:
        engine.docker("rm", "--force", container.decode().strip())


def _context() -> bytes:
    """The same bytes each time, which do not get smaller by packing."""
    source, data = random.Random(5), io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in [
            ("Dockerfile", DOCKERFILE.encode()),
            *((f"part-{number % 20}/{number}", source.randbytes(SIZE)) for number in range(FILES)),
        ]:
            member = tarfile.TarInfo(f"app/{name}")
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()
