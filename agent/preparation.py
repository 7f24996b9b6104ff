"""What must be there before a build's container is: its workspace with the source in it, and the image.

And, once it is created, the workspace and the passwd entry for the user that it runs as.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from agent import references, toolkit, users
from agent.errors import ImageUnavailable, InvalidRequest, NotFound, SourceFailed
from agent.files import archive, git_source
from agent.pull import pull
from agent.requests import GIT_PASSWORD, BuildRequest, GitSource, UploadedSource
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.builds import Build
    from agent.engine import Engine, Image
    from agent.files.sources import Sources
    from agent.files.workspace import Workspaces
    from agent.phases import Phases
    from agent.registries import Registries
    from agent.settings import SourceSettings
    from agent.stop import Stop
    from agent.users import User

_SHELL = "/bin/sh"


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Shared by all builds. Remembers who `user` is in an image, by the image's id, which never changes its content."""

    engine: Engine
    workspaces: Workspaces
    sources: Sources
    settings: SourceSettings
    registries: Registries
    _users: dict[tuple[str, str], tuple[User | None, str]] = field(default_factory=dict)
    _startable: set[str] = field(default_factory=set)  # images of which containers can be started
    _shells: dict[str, bool] = field(default_factory=dict)  # whether an image has the shell of freestyle jobs

    async def prepare(
        self,
        build: Build,
        reference: str,
        stop: Stop,
        phases: Phases,
        secrets: dict[str, str],
        note: Callable[[str], None],
    ) -> Image:
        """Make the workspace and find or pull the image, at once. Raises SourceFailed, ImageUnavailable, Stopped."""
        # Both are waited for, whatever the other comes to: a clean-up must not meet a workspace in the making.
        workspace, image = await asyncio.gather(
            self._workspace(build, stop, phases, secrets, note),
            self._image(build, reference, stop, phases, note),
            return_exceptions=True,
        )
        for outcome in (workspace, image):
            if isinstance(outcome, BaseException):
                raise outcome
        return cast("Image", image)

    async def give_to_user(self, build: Build, container: str, image: Image) -> None:
        """Make the workspace the user's own, and let a bare uid find itself in /etc/passwd."""
        name = build.container.user or image.user
        if users.is_root(name):
            if os.geteuid() != 0:  # or git in the build would call the workspace's owner dubious
                await in_thread(self.workspaces.give_to, build.id, 0, 0)
            return
        user, passwd = await self._user(name, container, image)
        if user is None:
            return  # the engine refuses to start it, and says so
        await in_thread(self.workspaces.give_to, build.id, user.uid, user.gid)
        if not user.known:
            entry = users.with_entry(passwd, user, toolkit.HOME).encode()
            await self.engine.write_file(container, "/etc/passwd", entry, 0o644)

    async def see_it_can_start(self, container: str, image: Image) -> None:
        """Raise ImageUnavailable if the engine would wait for the image's users for ever, with the container locked.

        While one is locked, the engine removes no image at all. Looked at once for each image.
        """
        if image.id not in self._startable:
            for path in ("/etc/passwd", "/etc/group"):
                if await self.engine.waits_at(container, path):
                    raise ImageUnavailable(f"{path} in the image is no file: no container of it can be started")
            self._startable.add(image.id)

    async def give_shell(self, build: Build, container: str, image: Image) -> None:
        """Let an agent's image have a /bin/sh: freestyle jobs name that file (hudson.tasks.Shell)."""
        if isinstance(build.request, BuildRequest):
            return
        if image.id not in self._shells:
            self._shells[image.id] = await self.engine.has_path(container, _SHELL)
        if not self._shells[image.id]:
            await self.engine.write_file(container, _SHELL, toolkit.SHELL_SCRIPT, 0o755)

    async def _workspace(
        self, build: Build, stop: Stop, phases: Phases, secrets: dict[str, str], note: Callable[[str], None]
    ) -> None:
        await in_thread(self.workspaces.make, build.id)
        source = build.request.source if isinstance(build.request, BuildRequest) else None
        if source is not None:
            with phases("source"):
                await in_thread(self._bring_source, build, source, stop, secrets, note)
            stop.check()

    def _bring_source(
        self,
        build: Build,
        source: UploadedSource | GitSource,
        stop: Stop,
        secrets: dict[str, str],
        note: Callable[[str], None],
    ) -> None:
        workspace = self.workspaces.path(build.id)
        try:
            if isinstance(source, UploadedSource):
                tar = self.sources.path(source.id)
                archive.unpack(tar, workspace, self.settings, owner=None, cancelled=stop.asked)
            else:
                git_source.fetch(
                    source,
                    secrets.get(GIT_PASSWORD),
                    workspace,
                    timeout=self.settings.git_timeout,
                    cancelled=stop.asked,
                    note=note,
                )
        except (InvalidRequest, NotFound) as error:
            raise SourceFailed(str(error)) from error

    async def _image(
        self, build: Build, reference: str, stop: Stop, phases: Phases, note: Callable[[str], None]
    ) -> Image:
        wanted = build.container.pull
        private = references.parse(reference).domain == references.PRIVATE  # which no registry has
        image = await self.engine.image(reference) if private or wanted != "always" else None
        if image is not None:
            return image
        if private:
            raise ImageUnavailable(f"image {reference} is not kept any more (images.keep); build it again")
        if wanted == "never":
            raise ImageUnavailable(f"image {reference} is not on the engine, and the build says never to pull it")
        stop.check()
        start = time.perf_counter()
        with phases("pull"):
            await stop.or_else(pull(self.engine, self.registries, reference, note))
        image = await self.engine.image(reference)
        if image is None:
            raise ImageUnavailable(f"image {reference} was pulled, but the engine does not have it")
        note(f"pulled {reference} in {time.perf_counter() - start:.1f} s")
        return image

    async def _user(self, name: str, container: str, image: Image) -> tuple[User | None, str]:
        key = (image.id, name)
        if key not in self._users:
            passwd, group = [
                (await self.engine.read_file(container, path) or b"").decode("utf-8", "replace")
                for path in ("/etc/passwd", "/etc/group")
            ]
            self._users[key] = (users.find(name, passwd, group), passwd)
        return self._users[key]
