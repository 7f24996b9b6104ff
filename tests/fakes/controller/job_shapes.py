"""Jobs, builds and the queue as `/api/json` exports them, property by property as recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import why as reasons
from .exported import ALWAYS, Bean, lazily

if TYPE_CHECKING:
    from .access import Caller
    from .state import State
    from .things import Build, Item, Job

_PART = "org.jenkinsci.plugins.workflow.support.steps.ExecutorStepExecution$PlaceholderTask"
_WORKFLOW = "org.jenkinsci.plugins.workflow.job."
JOB_CLASSES = {
    "freestyle": "hudson.model.FreeStyleProject",
    "pipeline": _WORKFLOW + "WorkflowJob",
    "folder": "com.cloudbees.hudson.plugins.folder.Folder",
}
_BUILD_CLASSES = {"freestyle": "hudson.model.FreeStyleBuild", "pipeline": _WORKFLOW + "WorkflowRun"}
_COLORS = {"SUCCESS": "blue", "UNSTABLE": "yellow", "FAILURE": "red", "ABORTED": "aborted", "NOT_BUILT": "notbuilt"}


def millis(seconds: float) -> int:
    return int(seconds * 1000)


class JobShapes:
    """For one request: what its caller may see, in the caller's language. Made and used under the state's lock."""

    def __init__(self, state: State, url: str, caller: Caller, *, english: bool) -> None:
        self._state = state
        self._url = url
        self._english = english
        self._reads_jobs = caller.may("Job/Read")

    def jobs_in(self, folder: str) -> list[Bean]:
        return [self.job(job) for job in self._state.jobs_in(folder)] if self._reads_jobs else []

    def part(self, build: Build, kind: str, base: str) -> Bean:
        name = f"part of {build.name}"
        bean = Bean(_PART + kind).put(fullDisplayName=name, url=base + build.path)
        return bean.put(number=build.number) if kind else bean.put(name=name)

    def queue(self) -> Bean:
        items = [self.item(item) for item in self._state.queued()] if self._reads_jobs else []
        return Bean("hudson.model.Queue").put(discoverableItems=[]).put(inline=True, items=items)

    def item(self, item: Item) -> Bean:
        kind = {"waiting": "Waiting", "blocked": "Blocked", "buildable": "Buildable", "left": "Left"}[item.state]
        bean = Bean(f"hudson.model.Queue${kind}Item", ALWAYS).put(
            blocked=item.state == "blocked",
            buildable=item.state == "buildable",
            id=item.id,
            inQueueSince=millis(item.since),
            params="".join(f"\n{name}={value}" for name, value in item.parameters.items()),
            stuck=reasons.is_stuck(self._state, item),
            task=lazily(self._task, item),
            url=f"queue/item/{item.id}/",
            why=reasons.why(self._state, item, english=self._english),
        )
        bean.put(1, actions=_actions(item.causes, item.parameters))
        return bean.put(**self._by_state(item))

    def _by_state(self, item: Item) -> dict[str, Any]:
        since = millis(item.buildable_since or item.since)
        if item.state == "left":
            executable = lazily(self._left, item)
            return {"cancelled": item.cancelled, "executable": executable}
        if item.state == "waiting":
            return {"timestamp": millis(item.wait_until)}
        if item.state == "blocked":
            return {"buildableStartMilliseconds": since}
        return {"buildableStartMilliseconds": since, "pending": False}

    def _left(self, item: Item) -> Bean | None:
        if item.executable is None:
            return None
        if item.is_part:
            return self.part(item.executable, "$PlaceholderExecutable", self._url)
        return self.build(item.executable)

    def _task(self, item: Item) -> Bean:
        return self.part(item.build, "", "") if item.build else self.job(item.job)

    def job(self, job: Job) -> Bean:
        name = job.name.replace("/", " » ")
        bean = (
            Bean(JOB_CLASSES[job.kind])
            .put(ALWAYS, name=job.short_name, url=self._url + job.path)
            .put(description=job.description, displayName=job.short_name, displayNameOrNull=None)
            .put(fullDisplayName=name, fullName=job.name)
        )
        if job.kind == "folder":
            return bean.put(actions=[], healthReport=[], views=[], jobs=lazily(self.jobs_in, job.name))
        return self._with_builds(job, bean)

    def _with_builds(self, job: Job, bean: Bean) -> Bean:
        builds = job.newest_first
        queued = next((item for item in self._state.queued() if item.job is job and not item.is_part), None)
        bean.put(2, color=_color(builds)).put(
            actions=[_parameters_defined(job)] if job.parameters else [Bean()],
            buildable=not job.disabled,
            builds=[lazily(self.build, build) for build in builds],
            healthReport=[{"description": "Build stability: No recent builds failed.", "score": 100}] if builds else [],
            inQueue=queued is not None,
            keepDependencies=False,
            nextBuildNumber=job.next_number,
            property=[_parameters_defined(job)] if job.parameters else [],
            queueItem=lazily(self.item, queued) if queued else None,
            concurrentBuild=job.concurrent or job.kind == "pipeline",
            **{name: lazily(self.build, build) if build else None for name, build in _landmarks(builds).items()},
        )
        if job.kind == "pipeline":
            return bean.put(resumeBlocked=False)
        label = job.label_text or None
        return bean.put(disabled=job.disabled, downstreamProjects=[], upstreamProjects=[], labelExpression=label).put(
            scm=Bean("hudson.scm.NullSCM")
        )

    def build(self, build: Build) -> Bean:
        one_off = "hudson.model.OneOffExecutor" if build.job.kind == "pipeline" else None
        bean = Bean(_BUILD_CLASSES[build.job.kind]).put(2, number=build.number, url=self._url + build.path)
        interrupted = [Bean("jenkins.model.InterruptedBuildAction")] if build.aborted_by else []
        bean.put(
            actions=[*_actions(build.causes, build.parameters), *interrupted, *_pipeline_actions(build)],
            artifacts=[],
            building=build.building,
            description=build.description,
            displayName=f"#{build.number}",
            duration=millis(build.ended_at - build.created_at) if build.ended_at else 0,
            estimatedDuration=millis(build.ended_at - build.created_at) if build.ended_at else -1,
            executor=Bean(one_off) if build.building else None,
            fullDisplayName=build.name,
            id=str(build.number),
            inProgress=build.building,
            keepLog=False,
            queueId=build.queue_id,
            result=build.result,
            timestamp=millis(build.created_at),
            culprits=[],
        ).put(-1, fingerprint=[])
        if build.job.kind == "pipeline":
            return bean.put(changeSets=[], nextBuild=None, previousBuild=None)
        return bean.put(
            builtOn=build.node, changeSet=Bean("hudson.scm.EmptyChangeLogSet").put(ALWAYS, items=[], kind=None)
        )


def _actions(users: list[str], parameters: dict[str, str]) -> list[Bean]:
    actions = []
    if parameters:
        values = [
            Bean("hudson.model.StringParameterValue").put(ALWAYS, name=name, value=value)
            for name, value in parameters.items()
        ]
        actions.append(Bean("hudson.model.ParametersAction").put(2, parameters=values))
    if users:
        causes = [
            Bean("hudson.model.Cause$UserIdCause").put(
                3, shortDescription=f"Started by user {user}", userId=user, userName=user
            )
            for user in users
        ]
        actions.append(Bean("hudson.model.CauseAction").put(2, causes=causes))
    return actions


def _pipeline_actions(build: Build) -> list[Bean]:
    """They export nothing, but are there."""
    if build.job.kind != "pipeline":
        return []
    graph = Bean("org.jenkinsci.plugins.workflow.job.views.FlowGraphAction")
    return [*(Bean() for _ in range(3 if build.building else 1)), graph, Bean(), Bean()]


def _parameters_defined(job: Job) -> Bean:
    definitions = [
        {
            "_class": "hudson.model.StringParameterDefinition",
            "defaultParameterValue": {"_class": "hudson.model.StringParameterValue", "name": name, "value": value},
            "description": None,
            "name": name,
            "type": "StringParameterDefinition",
        }
        for name, value in job.parameters.items()
    ]
    return Bean("hudson.model.ParametersDefinitionProperty").put(2, parameterDefinitions=definitions)


def _landmarks(builds: list[Build]) -> dict[str, Build | None]:
    """firstBuild, lastFailedBuild and so on."""
    ended = [build for build in builds if not build.building]

    def last(*results: str) -> Build | None:
        return next((build for build in ended if build.result in results), None)

    return {
        "firstBuild": builds[-1] if builds else None,
        "lastBuild": builds[0] if builds else None,
        "lastCompletedBuild": ended[0] if ended else None,
        "lastFailedBuild": last("FAILURE"),
        "lastStableBuild": last("SUCCESS"),
        "lastSuccessfulBuild": last("SUCCESS", "UNSTABLE"),
        "lastUnstableBuild": last("UNSTABLE"),
        "lastUnsuccessfulBuild": last("FAILURE", "UNSTABLE", "ABORTED", "NOT_BUILT"),
    }


def _color(builds: list[Build]) -> str:
    ended = next((build for build in builds if build.result), None)
    color = _COLORS[ended.result or ""] if ended else "notbuilt"
    return color + ("_anime" if any(build.building for build in builds) else "")
