"""What agents can be had: a template's, or one that a label describes by itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import ValidationError

from agent import callers, grants, job_url, labels
from agent.docker_access import rights
from agent.errors import InvalidRequest, Rejected
from agent.requests import AgentRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from agent.settings.grants import GrantSettings
    from agent.settings.templates import Template


def with_labels(templates: Mapping[str, Template]) -> dict[str, Template]:
    """Those that jobs can ask for; the others are there to be inherited from."""
    return {name: template for name, template in templates.items() if template.labels}


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The admin's templates by name, and images by label."""

    templates: Mapping[str, Template]
    heap: int | None = None
    grants: Mapping[str, GrantSettings] = field(default_factory=dict)
    daemon_image: str | None = None  # without one the level `isolated` is not to be had

    def granted(self, request: AgentRequest, url: str) -> AgentRequest:
        """The same, refused if it has more of Docker than the job of that URL may have, or than there is.

        A job that we may not see is asked about when it uses its socket, as any is then: another may take the agent.
        """
        job = job_url.of_task(url)
        try:
            rights.check_daemons(request.docker, self.daemon_image)
            if job is not None and not rights.by_template(request.template, request.docker):
                grants.check_docker(callers.job(job), request.docker, self.grants)
        except Rejected as error:
            return request.model_copy(update={"refusal": f"{error} ({error.rule})"})
        return request

    def for_expression(self, expression: labels.Expression) -> AgentRequest | None:
        """The agent that a job with this label expression may run on, or None if we have none."""
        for template in self.templates.values():
            if expression.matches(template.labels):
                return self.of_template(template)
        images = [atom for atom in expression.atoms if atom.startswith(labels.IMAGE)]
        return next((self._of_label(atom) for atom in images if expression.matches({atom})), None)

    def for_labels(self, wanted: Collection[str]) -> AgentRequest | None:
        """The agent that has all of these labels: what a node of this kind was made from."""
        if not wanted:
            return None
        for template in self.templates.values():
            if set(wanted) <= set(template.labels):
                return self.of_template(template)
        label, *others = wanted
        return self._of_label(label) if not others and label.startswith(labels.IMAGE) else None

    def of_template(self, template: Template) -> AgentRequest:
        """The template's agent."""
        return AgentRequest(
            node_labels=list(template.labels),
            template=template.name,
            image=template.image,
            user=template.user,
            cpus=template.cpus,
            memory=template.memory,
            pids=template.pids,
            shm_size=template.shm_size,
            timeout=template.timeout,
            env=dict(template.env),
            caches=dict(template.caches),
            heap=template.heap or self.heap,
            pull=template.pull,
            docker=template.docker,
        )

    def _of_label(self, atom: str) -> AgentRequest:
        """What a label such as `image=python:3.12,cpus=2` asks for; if that makes no sense, a request that says so."""
        try:
            wish = labels.parse_image(atom)
            if wish is None:
                raise InvalidRequest(f"{atom!r} names no image")
            return AgentRequest(
                node_labels=[atom],
                image=wish.image,
                cpus=wish.cpus,
                memory=wish.memory,
                heap=self.heap,
                docker=wish.docker,
            )
        except InvalidRequest as error:
            refusal = str(error)
        except ValidationError as error:
            fault = error.errors()[0]
            refusal = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        return AgentRequest(node_labels=[atom], image="unknown", refusal=f"the label {atom!r} cannot be had: {refusal}")
