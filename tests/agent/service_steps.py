"""A whole service on a folder and an engine in memory, of which a test drives one part at a time."""

import asyncio
import io
import tarfile
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

from agent import toolkit
from agent.assembly import assemble
from agent.builds import Lane
from agent.busybox import find_static_busybox
from agent.engine import Stream, container_name
from agent.errors import StoreUnavailable
from agent.requests import BuildRequest
from agent.settings import Settings
from agent.tokens import Scope, Token
from api.client_zipapp import zipapp
from tests.api.harness import hub, until
from tests.fakes.memory_engine import MemoryEngine, Script

OUT, ERR = Stream.STDOUT, Stream.STDERR
LEASE = 60.0
CI = Token(id="ci", name="ci", scopes=frozenset({Scope.READ, Scope.WRITE}), created_at=0)


class Bench:
    """`images` are scripts by short name; `settings` are the service's, by section. Nothing runs by itself."""

    def __init__(self, folder, images, engine_class=MemoryEngine, **settings):
        self.engine = engine_class({hub(name): script for name, script in images.items()})
        self.data = folder / "data"
        self.data.mkdir()
        # One toolkit for all tests of a run: it takes longer to make than all the rest.
        toolkit.install(folder.parent, find_static_busybox(), zipapp())
        (self.data / "toolkit").symlink_to(folder.parent / "toolkit")
        self.engine.volumes["sibling-data"] = str(self.data)
        queue = {"min_free_disk": 1, "min_free_memory": 1, "drain": 0, **settings.pop("queue", {})}
        self.settings = Settings(queue=queue, **settings)
        self.service = None

    @asynccontextmanager
    async def assembled(self):
        """The parts of one life of the service; a test may have several, one after the other, as after a crash."""
        self.service = await assemble(self.settings, self.engine, client=zipapp())
        try:
            yield self
        finally:
            await self.service.scheduler.close()
            self.store.close()

    @property
    def store(self):
        return self.service.store

    @property
    def reaper(self):
        return self.service.reaper

    @property
    def scheduler(self):
        return self.service.scheduler

    @property
    def runner(self):
        return self.scheduler._runner_of(SimpleNamespace(lane=Lane.BUILDS))

    @property
    def workspaces(self):
        return self.reaper.workspaces

    def submit(self, image="quick", **parts):
        given = {} if "argv" in parts else {"commands": ["true"]}
        request = BuildRequest(image=image, **given, **parts)
        return self.store.submit(request, "ci", max_queued=1000)[0]

    def claimed(self, image="quick", **parts):
        """A new build, held by this service."""
        build = self.submit(image, **parts)
        held = self.store.claim(self.service.place.service_id, time.time() + LEASE, lambda _: True)
        assert held.id == build.id
        return held

    def adopted(self):
        """The one build that an earlier life held."""
        (build,) = self.store.adopt(self.service.place.service_id, time.time() + LEASE)
        return build

    def upload(self, name, content):
        """The id of an uploaded source that holds one file."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        upload = self.service.sources.begin()
        upload.write(packed.getvalue())
        return upload.commit().id

    def container(self, build):
        return self.engine.containers.get(container_name(build.id))

    def log(self, build):
        return self.service.logs.read(build.id, 0, 10**7).data

    async def logged(self, build, text):
        await until(lambda: text in self.log(build))

    def called(self, verb):
        """On what the verb was called, in that order."""
        return [target for name, target in self.engine.calls if name == verb]


class UnwritableStore:
    """The store, of which one method fails so many times."""

    def __init__(self, store, method, times=1):
        self._store = store
        self._method = method
        self._times = times

    def __getattr__(self, name):
        if name == self._method and self._times:
            return self._fail
        return getattr(self._store, name)

    def _fail(self, *_args, **_kwargs):
        self._times -= 1
        raise StoreUnavailable("the disk is full")


def stays(*first):
    """A script that writes, waits for the event which is returned too, and writes a last line."""
    goes_on = asyncio.Event()
    return Script(steps=(*(first or ((OUT, b"begun\n"),)), goes_on, (OUT, b"done\n"))), goes_on
