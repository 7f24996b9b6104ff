"""Agent templates: what is written of each in the settings file, and what it comes to with what it inherits."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from agent import references
from agent.errors import InvalidRequest
from agent.fields import ByteSize, DockerLevel, Duration, EnvName, SizeText, Text
from agent.settings.section import MIB, Heap, Section, conflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Pull = Literal["missing", "always", "never"]

# Where a container has what is Sibling's or the kernel's.
_TAKEN = ("/workspace", "/opt/sibling", "/tmp", "/proc", "/sys", "/dev")  # noqa: S108 - the container's own


def _image(value: str) -> str:
    try:
        references.parse(value)
    except InvalidRequest as error:
        raise ValueError(str(error)) from error  # what pydantic takes for a refusal
    return value


def _cache_path(value: str) -> str:
    inside = value == "/" or any(value == taken or value.startswith(f"{taken}/") for taken in _TAKEN)
    # normpath leaves two slashes at the beginning alone.
    if inside or not value.startswith("/") or value.startswith("//") or posixpath.normpath(value) != value:
        raise ValueError(f"{value!r} is not a path for a cache")
    return value


# What Jenkins reads as one atom of a label expression.
Atom = Annotated[str, Field(pattern=r"""^[^\s\x00-\x1f\x7f"'&|!()<>]+$""", max_length=256)]
CacheName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
CachePath = Annotated[Text, Field(max_length=4096), AfterValidator(_cache_path)]


class TemplateSettings(Section):
    """Agents for the builds of a Jenkins controller, a table for each kind; they are given in the settings file alone.

    NAME is up to 63 lower-case letters, digits or `-`, the first a letter or digit. A template has what the one that it
    inherits from has, but for what it gives itself, and for `labels`, `min_idle` and `cap`; `env` and `caches` are
    merged.
    """

    image: Annotated[Text, Field(max_length=512), AfterValidator(_image)] | None = Field(
        None,
        json_schema_extra={"allowed": "an image, such as `python:3.12` or `registry.example/team/app:1.0`"},
        description="Image that the agent runs in. Only a template that others inherit from may be without one; it "
        "then has no agents.",
    )
    inherits: str | None = Field(None, description="Name of another template.")
    labels: list[Atom] | None = Field(
        None,
        json_schema_extra={
            "allowed": "a list of labels, each up to 256 characters without spaces, quotes and any of `&|!()<>`"
        },
        description="Labels of builds that the agent is for. The template's name if not given. If several templates "
        "have a label, the first of them by name gets its builds.",
    )
    user: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$",
        max_length=128,
        json_schema_extra={"allowed": "a user or uid, and a `:` and a group if need be"},
        description="Who the agent runs as; the image's own user if not given.",
    )
    cpus: float | None = Field(
        None, ge=0.01, le=1024, allow_inf_nan=False, description="CPUs; `builds.cpus` if not given."
    )
    memory: Annotated[int, Field(ge=6 * MIB, le=2**53), SizeText] | None = Field(
        None, description="Memory; `builds.memory` if not given."
    )
    pids: int | None = Field(None, ge=1, le=4_000_000, description="Processes and threads; `builds.pids` if not given.")
    shm_size: ByteSize | None = Field(None, description="Size of /dev/shm; `builds.shm_size` if not given.")
    timeout: Duration | None = Field(
        None, description="How long the agent may run a build; `builds.max_timeout` if not given."
    )
    env: dict[EnvName, Text] = Field(
        {},
        max_length=1000,
        json_schema_extra={
            "allowed": 'a table of variables (letters, digits or `_`, no digit first), such as `{ LANG = "C.UTF-8" }`'
        },
        description="Environment variables.",
    )
    caches: dict[CacheName, CachePath] = Field(
        {},
        max_length=100,
        json_schema_extra={
            "allowed": "a table of names (up to 63 lower-case letters, digits, `.`, `_` or `-`, the first a letter or "
            "digit) and absolute paths outside of " + ", ".join(f"`{taken}`" for taken in _TAKEN) + ", such as "
            '`{ apt = "/var/cache/apt/archives" }`'
        },
        description="Folders that are kept from one agent to the next, and where agents see them.",
    )
    heap: Heap | None = Field(None, description="Largest Java heap of the agent; `jenkins.heap` if not given.")
    pull: Pull = Field("missing", description="When the image is pulled.")
    docker: DockerLevel = Field("none", description="What of Docker the agent's builds can use; see docker-access.md.")
    min_idle: int = Field(0, ge=0, description="Agents kept waiting for builds.")
    cap: int | None = Field(None, ge=1, description="Most agents of this template at once; no limit if not given.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """A template whole, with what it inherits. What is None is decided by the settings of builds and of Jenkins."""

    name: str
    labels: tuple[str, ...]
    image: str
    user: str | None
    cpus: float | None
    memory: int | None
    pids: int | None
    shm_size: int | None
    timeout: float | None
    env: Mapping[str, str]
    caches: Mapping[str, str]
    heap: int | None
    pull: Pull
    docker: DockerLevel
    min_idle: int
    cap: int | None


def resolve(templates: Mapping[str, TemplateSettings]) -> dict[str, Template]:
    """The templates that have agents, by name and in its order. Raises `conflict` for those that make no sense."""
    whole = {name: _inherited(templates, name) for name in sorted(templates)}
    parents = {template.inherits for template in templates.values()}
    return {
        name: _template(name, template)
        for name, template in whole.items()
        if template.image is not None or name not in parents
    }


def _inherited(templates: Mapping[str, TemplateSettings], name: str) -> TemplateSettings:
    whole = TemplateSettings()
    for ancestor in reversed([*_ancestry(templates, name)]):
        own = templates[ancestor]
        whole = whole.model_copy(
            update={
                **{field: getattr(own, field) for field in own.model_fields_set},
                "env": {**whole.env, **own.env},
                "caches": {**whole.caches, **own.caches},
                "labels": own.labels,
                "min_idle": own.min_idle,
                "cap": own.cap,
            }
        )
    return whole


def _ancestry(templates: Mapping[str, TemplateSettings], name: str) -> Iterator[str]:
    """The template, the one that it inherits from, and so on."""
    seen = [name]
    yield name
    while (parent := templates[seen[-1]].inherits) is not None:
        at = f"templates.{seen[-1]}.inherits"
        if parent not in templates:
            raise conflict(f"{at} = {parent!r} is no template; there are {', '.join(sorted(templates))}.", at)
        if parent in seen:
            circle = " -> ".join([*seen[seen.index(parent) :], parent])
            raise conflict(f"no template can inherit from itself: {circle}; take out one of these `inherits`.", at)
        seen.append(parent)
        yield parent


def _template(name: str, whole: TemplateSettings) -> Template:
    at = f"templates.{name}"
    if whole.image is None:
        raise conflict(f"{at} has no image of its own or inherited; give {at}.image.", at)
    _check(at, whole)
    return Template(
        name=name,
        labels=(name,) if whole.labels is None else tuple(dict.fromkeys(whole.labels)),
        image=whole.image,
        user=whole.user,
        cpus=whole.cpus,
        memory=whole.memory,
        pids=whole.pids,
        shm_size=whole.shm_size,
        timeout=whole.timeout,
        env=whole.env,
        caches=whole.caches,
        heap=whole.heap,
        pull=whole.pull,
        docker=whole.docker,
        min_idle=whole.min_idle,
        cap=whole.cap,
    )


def _check(at: str, whole: TemplateSettings) -> None:
    if whole.cap is not None and whole.min_idle > whole.cap:
        raise conflict(
            f"{at}.min_idle, {whole.min_idle}, is above {at}.cap, {whole.cap}; lower the first or raise the second.",
            f"{at}.min_idle",
        )
    taken: dict[str, str] = {}
    for cache, path in whole.caches.items():
        if (other := taken.setdefault(path, cache)) != cache:
            raise conflict(
                f"{at}.caches has {other} and {cache} at {path}; one path takes one cache.", f"{at}.caches", at
            )
