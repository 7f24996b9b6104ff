"""The whole API over an engine in memory: asked directly, or through a real server on a loopback socket."""

import asyncio
import socket
from contextlib import asynccontextmanager

import httpx2
import uvicorn

from agent import toolkit
from agent.assembly import assemble
from agent.busybox import find_static_busybox
from agent.engine import Stream
from agent.settings import Settings
from agent.tokens import FirstOf, Scope, TokenFile
from api.app import create_app
from api.client_zipapp import zipapp
from tests.fakes.memory_engine import MemoryEngine, Script

NEVER = 2**50  # bytes of free memory that no host has: all builds stay queued


def hub(name):
    """What the engine calls an image of this name."""
    return f"docker.io/library/{name}:latest"


async def until(condition, seconds=20):
    """Wait for a true value, of a function or a coroutine function, and return it."""
    async with asyncio.timeout(seconds):
        while True:
            value = condition()
            value = await value if asyncio.iscoroutine(value) else value
            if value:
                return value
            await asyncio.sleep(0.005)


class Api:
    """One service, with the images `quick`, `fails` and `stays`, whose containers end once `goes_on` is set."""

    def __init__(self, folder, **settings):
        self.goes_on = asyncio.Event()
        self.engine = MemoryEngine(
            {
                hub("quick"): Script(steps=((Stream.STDOUT, b"hello\n"), (Stream.STDERR, b"oops\n"))),
                hub("fails"): Script(exit_code=3),
                hub("stays"): Script(steps=((Stream.STDOUT, b"begun\n"), self.goes_on, (Stream.STDOUT, b"done\n"))),
            }
        )
        self.data = folder / "data"
        self.data.mkdir()
        # One toolkit for all tests of a run: it takes longer to make than most of them.
        toolkit.install(folder.parent, find_static_busybox(), zipapp())
        (self.data / "toolkit").symlink_to(folder.parent / "toolkit")
        self.engine.volumes["sibling-data"] = str(self.data)
        self.tokens = TokenFile(folder / "tokens")
        self.texts = {
            "reader": self.tokens.create("reader", [Scope.READ]),
            "writer": self.tokens.create("writer", [Scope.WRITE]),
            "admin": self.tokens.create("admin", [Scope.ADMIN]),
        }
        self.settings = Settings(**{"queue": {"min_free_disk": 1}, **settings})
        self.service = self.app = self.client = None

    @asynccontextmanager
    async def running(self):
        """The app with its service running; `client` asks it as admin."""
        await self.assemble()
        async with self.app.router.lifespan_context(self.app), self.client_as("admin") as self.client:
            yield self

    @asynccontextmanager
    async def listening(self):
        """The app on a real server; the address, and `client` asks it as admin through a socket."""
        await self.assemble()
        config = uvicorn.Config(self.app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            try:
                async with httpx2.AsyncClient(base_url=address, headers=self.headers("admin")) as self.client:
                    yield address
            finally:
                server.should_exit = True
                await serving

    async def assemble(self):
        self.service = await assemble(self.settings, self.engine, client=zipapp())
        self.app = create_app(self.service, FirstOf(self.tokens, self.service.store.exchanges))

    def add_image(self, name, *steps):
        """One more image, whose containers take these steps of a `Script`."""
        self.engine.images[hub(name)] = Script(steps=steps)
        self.engine.present.add(hub(name))

    def headers(self, who):
        return {"Authorization": f"Bearer {self.texts[who]}"}

    def client_as(self, who=None):
        """Asks the app directly, with that token or with none."""
        transport = httpx2.ASGITransport(self.app)
        return httpx2.AsyncClient(
            transport=transport, base_url="http://sibling", headers=self.headers(who) if who else None
        )

    async def submit(self, image="quick", **more):
        """Post a build; returns its JSON."""
        answer = await self.client.post("/v1/builds", json={"image": image, "commands": ["true"], **more})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def finished(self, image="quick", **more):
        """Post a build and wait for its end; returns its JSON."""
        build = await self.submit(image, **more)
        build = (await self.client.get(f"/v1/builds/{build['id']}?wait=30s", timeout=60)).json()
        assert build["state"] == "finished"
        return build

    async def logged(self, build, text):
        """Wait until the build's log holds the text."""

        async def holds():
            return text in (await self.client.get(f"/v1/builds/{build['id']}/log")).text

        await until(holds)
