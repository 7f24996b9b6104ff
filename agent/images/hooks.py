"""Hooks: the admin's commands on an image after its push, such as signing it, each in a container of its own.

A hook's run is a build like others, a child of the image build, with a record and a log of its own. The image build
waits for it while it holds its slot, so hooks have a lane of their own. Killed in between, the image build is begun
anew: it ends what still runs of the hooks that it began, pushes again, and runs all hooks again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from agent import references, toolkit
from agent.builds import UNFINISHED, BuildState, Outcome, Result
from agent.errors import AgentError, HookFailed, InvalidRequest, Unavailable
from agent.files.private_file import read_secret, write_private
from agent.registries import docker_config
from agent.requests import REGISTRY_CONFIG, HookRequest
from agent.settings.hooks import DOCKER_CONFIG, filled
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.build_store import BuildStore
    from agent.builds import Build, Pushed
    from agent.registries import Registries
    from agent.settings.hooks import HookSettings
    from agent.stop import Stop
    from agent.work import Held

_WAIT = 60.0  # seconds between looks at a hook whose end nobody told
_FOLDER = ".docker"  # of config.json, in the workspace


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """All hooks of the service. `finished` and `cancel` are its own; `wake` has it look at the queue.

    `max_queued` leaves room for the hooks in a queue that is full for callers: what waits there may wait for them.
    """

    tables: Mapping[str, HookSettings]
    store: BuildStore
    registries: Registries
    max_queued: int
    finished: Callable[[str, float], Coroutine[Any, Any, Build]]
    cancel: Callable[[str], Awaitable[object]]
    wake: Callable[[], None]

    async def run(self, held: Held, pushed: Sequence[Pushed]) -> None:
        """Run those that are for these images, one after another. Raises HookFailed, and Stopped.

        What runs then is ended with the image build, as all that a build has begun.
        """
        await self._end_earlier(held)
        for name, hook in sorted(self.tables.items()):
            for argv, image in _commands(hook, pushed, held.build).items():
                failure = await self._one(name, hook, argv, image, held)
                if failure is not None and hook.required:
                    tags = ", ".join(each.reference for each in pushed)
                    raise HookFailed(f"pushed {tags}, but hook {name} failed: {failure}")

    async def _end_earlier(self, held: Held) -> None:
        """End what a run of this image build that was cut off left behind."""
        for child in await in_thread(self.store.list, states=UNFINISHED, parent=held.build.id):
            held.log.note(f"ending build {child.id}, a hook that an earlier attempt began")
            await self.cancel(child.id)
            await self._ended(child.id, held.stop)

    async def _one(self, name: str, hook: HookSettings, argv: tuple[str, ...], image: Pushed, held: Held) -> str | None:
        """Run it once. What went wrong, or None."""
        note, start = held.log.note, time.perf_counter()
        try:
            registry = await self._registry(image) if hook.registry_login else {}
            request = await in_thread(_request, name, hook, argv, registry)
            build, _ = await in_thread(
                self.store.submit, request, f"hook:{name}", parent=held.build.id, max_queued=self.max_queued
            )
        except (InvalidRequest, Unavailable) as error:
            note(f"hook {name}: not run: {error}")
            return str(error)
        self.wake()
        note(f"hook {name}: build {build.id}, on {_full(image)}")
        outcome = await self._ended(build.id, held.stop)
        told = f": {outcome.message}" if outcome.message else ""
        note(f"hook {name}: {outcome.result} in {time.perf_counter() - start:.1f} s, build {build.id}{told}")
        return None if outcome.result is Result.SUCCESS else f"{outcome.message} (build {build.id})"

    async def _ended(self, build_id: str, stop: Stop) -> Outcome:
        while True:
            build = await stop.or_else(self.finished(build_id, _WAIT))
            if build.state is BuildState.FINISHED and build.outcome is not None:
                return build.outcome

    async def _registry(self, image: Pushed) -> dict[str, str]:
        """The login for the image's registry alone, and the forms of it that a tool may print."""
        host = references.parse(image.reference).domain
        login = await self.registries.login(host)
        if login is None:
            return {"config": docker_config({})}
        both = f"{login.username}:{login.password}"  # in base64 it is what config.json has
        return {"config": docker_config({host: login}), "password": login.password, "both": both}


def _request(name: str, hook: HookSettings, argv: tuple[str, ...], registry: Mapping[str, str]) -> HookRequest:
    """What is asked for. Raises InvalidRequest, also for a secret that cannot be read."""
    at = f"hooks.{name}"
    secrets = {
        variable: read_secret(f"{at}.secret_files.{variable}", path) for variable, path in hook.secret_files.items()
    }
    own = {DOCKER_CONFIG: f"{toolkit.WORKSPACE}/{_FOLDER}"} if registry else {}
    try:
        return HookRequest(
            image=hook.image,
            argv=list(argv),
            env={**hook.env, **own},
            secrets=_hidden(secrets),
            registry=_hidden(registry),
            artifacts=hook.artifacts,
            labels={"hook": name},
            timeout=hook.timeout,
        )
    except ValidationError as error:
        # Not with its own text, which shows what was given.
        reasons = "; ".join(each["msg"] for each in error.errors(include_input=False, include_context=False))
        raise InvalidRequest(f"{at}: {reasons}") from None


def furnish(workspace: Path, secrets: Mapping[str, str]) -> None:
    """Put a hook's config.json into its workspace, if it is to have one. Raises AgentError if the disk refuses."""
    if REGISTRY_CONFIG not in secrets:
        return
    folder = workspace / _FOLDER
    try:
        folder.mkdir(mode=0o700)
        write_private(folder / "config.json", secrets[REGISTRY_CONFIG])
    except OSError as error:
        raise AgentError(f"the registry's login could not be put into the workspace: {error.strerror}") from error


def _commands(hook: HookSettings, pushed: Sequence[Pushed], build: Build) -> dict[tuple[str, ...], Pushed]:
    """Each different command, and the first image that it is of."""
    found: dict[tuple[str, ...], Pushed] = {}
    for image in pushed:
        reference = references.parse(image.reference)
        if any(references.matches(reference, pattern) for pattern in hook.push):
            values = dict(_values(image, build))
            found.setdefault(tuple(filled(each, values) for each in hook.argv), image)
    return found


def _values(image: Pushed, build: Build) -> Iterator[tuple[str, str]]:
    """What the templates' names stand for; see `agent.settings.hooks.VALUES`."""
    yield "reference", _full(image)
    yield "tag", image.reference
    yield "digest", image.digest
    yield "repository", references.parse(image.reference).name
    yield "build", build.id
    yield "caller", build.created_by


def _full(image: Pushed) -> str:
    return f"{references.parse(image.reference).name}@{image.digest}"


def _hidden(values: Mapping[str, str]) -> dict[str, SecretStr]:
    return {name: SecretStr(value) for name, value in values.items()}
