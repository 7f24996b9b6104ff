"""An engine under test, of either kind, and the tasks that its containers do."""

import secrets
from dataclasses import dataclass, field, replace

from agent.engine import LABEL_BUILD, LABEL_SERVICE, ContainerSpec, Stream
from tests.conftest import BUSYBOX
from tests.fakes.memory_engine import MemoryEngine, Script

OUT, ERR = Stream.STDOUT, Stream.STDERR
MIB = 1024**2


@dataclass(frozen=True)
class Task:
    """One thing that a container does: as shell for a real engine, as a script for the one in memory."""

    shell: str
    script: Script = field(default_factory=Script)
    image: str = BUSYBOX
    user: str | None = None
    memory: int = 64 * MIB


class Subject:
    """An engine under test, which knows how to make it do a task, and removes what it made."""

    def __init__(self, engine):
        self.engine = engine
        self.service = f"test-{secrets.token_hex(4)}"
        self.made = []
        self.streams = []

    def spec(self, task, **parts):
        if isinstance(self.engine, MemoryEngine):
            self.engine.images[task.image] = task.script
            self.engine.present.add(task.image)
        spec = ContainerSpec(
            image=task.image,
            entrypoint=("/bin/sh", "-c", task.shell),
            env={"WHO": "sibling"},
            labels={LABEL_SERVICE: self.service, LABEL_BUILD: "b1"},
            workdir="/",
            user=task.user,
            network="none",
            mounts=(),
            tmpfs={},
            cpus=1,
            memory=task.memory,
            pids=50,
            shm_size=MIB,
            cap_add=(),
            log_size=10 * MIB,
        )
        return replace(spec, **parts)

    async def create(self, task, **parts):
        name = f"sibling-test-{secrets.token_hex(8)}"
        self.made.append(name)
        await self.engine.create(name, self.spec(task, **parts))
        return name

    async def attach(self, container, stdin=b""):
        self.streams.append(await self.engine.attach(container, stdin))
        return self.streams[-1]

    async def started(self, task, stdin=b"", **parts):
        """A started container and its output."""
        container = await self.create(task, **parts)
        stream = await self.attach(container, stdin)
        await self.engine.start(container)
        return container, stream

    async def run(self, task, stdin=b"", **parts):
        """Take it through its life; returns the container, what it wrote per stream, and how it ended."""
        container, stream = await self.started(task, stdin, **parts)
        return container, await collect(stream), await self.engine.wait(container)

    async def clean(self):
        for stream in self.streams:
            stream.close()
        for name in self.made:
            await self.engine.remove(name)


async def collect(stream, enough=None):
    """What a stream carries, per stream, to its end or until `enough` is in it."""
    seen = {OUT: b"", ERR: b""}

    def write(number, data):
        seen[number] += bytes(data)
        if enough is not None and enough in seen[number]:
            stream.close()

    await stream.pump(write)
    return seen
