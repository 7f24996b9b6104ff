"""An engine in memory, scripted by data: what each image's containers do, and which verbs fail."""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from hashlib import sha256

from anyio import to_thread

from agent.engine import Container, EngineInfo, ExitStatus, Image, MountPoint, Stream, Usage
from agent.errors import (
    ContainerExists,
    ContainerNotFound,
    EngineError,
    EngineUnavailable,
    ImageUnavailable,
    PushFailed,
)

TERMINATED, KILLED = 128 + 15, 128 + 9


class Step(Enum):
    """A step of a script other than writing and waiting."""

    ECHO = auto()  # write to stdout what came on stdin


@dataclass(frozen=True, kw_only=True)
class Script:
    """What a container of an image does, and what the engine has of the image.

    `steps` are (stream, bytes) to write, events to wait for, or a `Step`; then it ends with `exit_code`.
    """

    steps: tuple = ()
    exit_code: int = 0
    oom_killed: bool = False
    ignores_term: bool = False
    start_error: str = ""  # the runtime's words
    present: bool = True  # or it must be pulled first
    pull_error: str = ""  # the registry's words
    user: str = ""
    files: dict = field(default_factory=dict)


class OutOfOrder(AssertionError):
    """A verb came where it makes no sense; a real engine might lose output or run a build twice."""


class MemoryContainer:
    """`stdin` is None until someone attached."""

    def __init__(self, number, name, spec, script):
        self.id = f"{number:064x}"
        self.name = name
        self.spec = spec
        self.script = script
        self.state = "created"
        self.stdin: bytes | None = None
        self.files = dict(script.files)
        self.output: list[tuple[Stream, bytes]] = []
        self.status: ExitStatus | None = None
        self.created_at = time.time()
        self.changed = asyncio.Event()
        self.ended = asyncio.Event()
        self._started_at = 0.0
        self._work: asyncio.Task | None = None

    def start(self):
        self.state, self._started_at = "running", time.time()
        self._work = asyncio.create_task(self._run())

    def end(self, exit_code):
        if self.state != "running":
            return
        self._work.cancel()
        self.state = "exited"
        self.status = ExitStatus(
            exit_code=exit_code,
            oom_killed=self.script.oom_killed,
            started_at=self._started_at,
            finished_at=time.time(),
        )
        self.ended.set()
        self._tell()

    def as_listed(self):
        return Container(
            id=self.id, name=self.name, state=self.state, labels=self.spec.labels, created_at=self.created_at
        )

    async def _run(self):
        for step in self.script.steps:
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                self.output.append((Stream.STDOUT, self.stdin) if step is Step.ECHO else step)
                self._tell()
        self.end(self.script.exit_code)

    def _tell(self):
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryStream:
    def __init__(self, engine, container, *, follow):
        self._engine = engine
        self._container = container
        self._follow = follow
        self._pumped = False
        self._closed = asyncio.Event()

    async def pump(self, write):
        if self._pumped:
            raise OutOfOrder("a stream is pumped once")
        self._pumped = True
        output, position = self._container.output, 0
        while not self._closed.is_set():
            changed = self._container.changed
            while position < len(output):
                await to_thread.run_sync(write, *output[position])
                position += 1
            self._engine.fail_if_told("pump")
            if not self._follow or self._container.ended.is_set():
                return
            await _first(changed.wait(), self._closed.wait())

    def close(self):
        self._closed.set()


class MemoryEngine:
    """An `Engine` that has `images`. A container runs until its script ends or someone stops or removes it.

    `failures` holds, per verb, the errors that its next calls raise; `pump` counts as one, and fails after what was
    written so far. `calls` are the verbs called, with the container or image. `containers` are those that are left, by
    name, and `created` all there ever were. While it is not `up`, every verb raises EngineUnavailable.
    """

    def __init__(self, images: dict[str, Script] | None = None) -> None:
        self.images = images or {}
        self.present = {reference for reference, script in self.images.items() if script.present}
        self.failures: dict[str, list[Exception]] = defaultdict(list)
        self.calls: list[tuple[str, str]] = []
        self.containers: dict[str, MemoryContainer] = {}
        self.created: list[MemoryContainer] = []
        self.networks: dict[str, dict] = {}
        self.volumes: dict[str, str] = {}
        self.tagged: dict[str, str] = {}  # reference -> image id, of what was tagged and not pulled
        self.registry: dict[str, str] = {}  # reference -> digest, of what was pushed
        self.up = True

    def fail_if_told(self, verb):
        if not self.up:
            raise EngineUnavailable(f"could not {verb}: the engine in memory is down")
        if self.failures[verb]:
            raise self.failures[verb].pop(0)

    async def info(self):
        self._call("info")
        return EngineInfo(
            version="26.0.0",
            api_version="1.45",
            os="memory",
            cpus=2,
            memory=8 * 1024**3,
            storage_driver="memory",
            has_init=True,
        )

    async def ensure_network(self, name, labels):
        self._call("ensure_network", name)
        self.networks.setdefault(name, dict(labels))

    async def ensure_volume(self, name, labels):
        self._call("ensure_volume", name)
        return self.volumes.setdefault(name, f"/var/lib/docker/volumes/{name}/_data")

    async def image(self, reference):
        self._call("image", reference)
        if reference in self.tagged:
            return Image(id=self.tagged[reference], user="", size=1000)
        if reference not in self.present:
            return None
        return Image(id=f"sha256:{reference}", user=self.images[reference].user, size=1000)

    async def ensure_image(self, reference, archive):
        self._call("ensure_image", reference)
        assert archive
        self.images.setdefault(reference, Script())
        self.present.add(reference)

    async def pull(self, reference, progress, login=None):
        self._call("pull", reference)
        script = self.images.get(reference)
        if script is None or script.pull_error:
            words = script.pull_error if script else "pull access denied, repository does not exist"
            raise ImageUnavailable(f"could not pull image {reference}: {words}")
        progress(f"pulling {reference}: 1 of 1 layers, 1.0 of 1.0 MB")
        self.present.add(reference)

    async def push(self, reference, progress, login=None):
        self._call("push", reference)
        if (image := await self.image(reference)) is None:
            raise PushFailed(f"could not push image {reference}: it does not exist", denied=True)
        progress(f"pushing {reference}: 1 of 1 layers")
        self.registry[reference] = "sha256:" + sha256(image.id.encode()).hexdigest()
        return self.registry[reference]

    async def tag(self, image, reference):
        self._call("tag", reference)
        known = {*self.tagged.values(), *(f"sha256:{each}" for each in self.present)}
        named = await self.image(image)
        found = named.id if named else image
        if found not in known:
            raise ImageUnavailable(f"could not tag image {image} as {reference}: there is none")
        self.tagged[reference] = found

    async def untag(self, reference):
        self._call("untag", reference)
        self.tagged.pop(reference, None)
        self.present.discard(reference)

    async def tags(self, domain):
        self._call("tags", domain)
        return [tag for tag in self.tagged if tag.startswith(f"{domain}/")]

    async def create(self, name, spec):
        self._call("create", name)
        if name in self.containers:
            raise ContainerExists(f"could not create container {name}: the name is taken")
        if spec.image not in self.present:
            raise ImageUnavailable(f"could not create container {name}: no such image: {spec.image}")
        container = MemoryContainer(len(self.created) + 1, name, spec, self.images[spec.image])
        self.created.append(container)
        self.containers[name] = container
        return container.id

    async def read_file(self, container, path):
        return self._on("read_file", container).files.get(path)

    async def has_path(self, container, path):
        return path in self._on("has_path", container).files

    async def waits_at(self, container, path):
        self._on("waits_at", container)
        return False

    async def write_file(self, container, path, content, mode):
        self._on("write_file", container).files[path] = content

    async def make_link(self, container, path, target):
        self._on("make_link", container).files[path] = target.encode()

    async def attach(self, container, stdin):
        found = self._on("attach", container)
        if found.state != "created" or found.stdin is not None:
            raise OutOfOrder(f"attach to {found.name}, which is {found.state}: once, and before the start")
        found.stdin = stdin
        return MemoryStream(self, found, follow=True)

    async def logs(self, container, *, follow):
        return MemoryStream(self, self._on("logs", container), follow=follow)

    async def start(self, container):
        found = self._on("start", container)
        if found.stdin is None or found.state == "exited":
            raise OutOfOrder(f"start of {found.name}, which is {found.state}: once, and after an attach")
        if found.script.start_error:
            raise EngineError(f"could not start container {found.name}: {found.script.start_error}")
        if found.state == "created":
            found.start()

    async def wait(self, container):
        found = self._on("wait", container)
        if found.state == "created":
            raise EngineError(f"could not wait for container {found.name}: it was never started")
        await found.ended.wait()
        return found.status

    async def limit(self, container, *, cpus, memory):
        found = self._on("limit", container)
        found.spec = replace(found.spec, cpus=cpus, memory=memory)

    async def stop(self, container, grace):
        found = self._find(self._call("stop", container))
        if found is None:
            return
        if found.state == "running" and found.script.ignores_term:
            await _first(found.ended.wait(), asyncio.sleep(grace))
        found.end(KILLED if found.script.ignores_term else TERMINATED)

    async def remove(self, container):
        found = self._find(self._call("remove", container))
        if found is not None:
            found.end(KILLED)
            del self.containers[found.name]

    async def container(self, name):
        found = self._find(self._call("container", name))
        return None if found is None else found.as_listed()

    async def mounts(self, container):
        mounts = self._on("mounts", container).spec.mounts
        return [MountPoint(type="volume", source=mount.volume, target=mount.target) for mount in mounts]

    async def list(self, labels):
        self._call("list")
        return [
            each.as_listed() for each in self.containers.values() if labels.items() <= dict(each.spec.labels).items()
        ]

    async def stats(self, container):
        self._on("stats", container)
        return Usage(memory=1024**2, memory_peak=None, cpu_seconds=0.1, pids=1)

    async def close(self):
        self._call("close")

    def _call(self, verb, target=""):
        self.calls.append((verb, target))
        self.fail_if_told(verb)
        return target

    def _on(self, verb, container):
        found = self._find(self._call(verb, container))
        if found is None:
            raise ContainerNotFound(f"there is no container {container} in memory")
        return found

    def _find(self, name):
        return next((each for each in self.containers.values() if name in {each.name, each.id}), None)


async def _first(*coroutines):
    """Wait until one of them is done, and drop the others."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
