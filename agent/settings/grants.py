"""The settings of grants: who may push where, and use Docker how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from agent.fields import Text
from agent.settings.section import ImagePattern, Section, conflict

if TYPE_CHECKING:
    from collections.abc import Mapping

JobPattern = Annotated[Text, Field(pattern=r"^[^/]+(/[^/]+)*$", max_length=1024)]
TokenPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@*-]+$", max_length=64)]


class GrantSettings(Section):
    """Who may push images, and who may use Docker; a table for each. Who is in none of them may do neither.

    See images.md and docker-access.md. NAME is up to 63 lower-case letters, digits or `-`, the first a letter or digit.
    In patterns `*` stands for any characters but `/`, `**` for any: `team-a/**` covers all that is below `team-a`, but
    neither `team-a` itself nor `team-ab/app`. A caller may do what any of its grants says. If there is no grant at all,
    tokens of the scope `admin` may push everywhere and use every level of Docker but `host`; else they are like all
    others.
    """

    jobs: list[JobPattern] = Field(
        [],
        json_schema_extra={"allowed": "a list of patterns of jobs' full names, such as `team-a/**`"},
        description="Jobs of the controller whose builds may.",
    )
    tokens: list[TokenPattern] = Field(
        [],
        json_schema_extra={"allowed": "a list of patterns of tokens' names, such as `ci-*`"},
        description="Tokens that may; builds that were asked for with one may, too. Tokens of jobs are not among them.",
    )
    push: list[ImagePattern] = Field(
        [],
        json_schema_extra={"allowed": "a list of patterns of images, such as `registry.example/team-a/**`"},
        description="What may be pushed: patterns, as in `builds.allowed_images`, of full references. One without a "
        "tag covers every tag; one without a host is on `docker.io`.",
    )
    docker: list[Literal["scoped", "isolated", "host"]] = Field(
        [],
        json_schema_extra={"allowed": 'a list of `"scoped"`, `"isolated"` and `"host"`'},
        description="What of Docker its builds may be given where they ask for it. A template with `scoped` or "
        "`isolated` needs no grant; `host` always does.",
    )


def check_grants(tables: Mapping[str, GrantSettings]) -> None:
    """Raise `conflict` for tables that make no sense."""
    for name, table in tables.items():
        at = f"grants.{name}"
        if not table.jobs and not table.tokens:
            raise conflict(f"{at} is for nobody; give {at}.jobs or {at}.tokens.", f"{at}.push", f"{at}.docker")
        if not table.push and not table.docker:
            raise conflict(f"{at} grants nothing; give {at}.push or {at}.docker.", f"{at}.jobs", f"{at}.tokens")
