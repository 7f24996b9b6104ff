"""The controller itself and its nodes as `/api/json` exports them, property by property as recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .exported import ALWAYS, Bean, lazily
from .job_shapes import JobShapes, millis

if TYPE_CHECKING:
    from .labels import Label
    from .things import Build, Node

_MONITORS = ("SwapSpace", "TemporarySpace", "DiskSpace", "Architecture", "ResponseTime", "Clock")
_SERIES = (
    "availableExecutors",
    "busyExecutors",
    "connectingExecutors",
    "definedExecutors",
    "idleExecutors",
    "onlineExecutors",
    "queueLength",
    "totalExecutors",
)


class Shapes(JobShapes):
    def root(self) -> Bean:
        state = self._state
        view = Bean("hudson.model.AllView").put(ALWAYS, name="all", url=self._url)
        return (
            Bean("hudson.model.Hudson")
            .put(
                assignedLabels=lazily(self._labels, state.built_in),
                mode="NORMAL",
                nodeDescription=state.built_in.description,
                nodeName="",
                numExecutors=0,
                description=None,
                jobs=lazily(self.jobs_in, ""),
                overallLoad=Bean(),
                primaryView=view,
                quietDownReason=state.quiet or None,
                quietingDown=state.quiet is not None,
                slaveAgentPort=-1,
                unlabeledLoad=Bean("jenkins.model.UnlabeledLoadStatistics"),
                useCrumbs=True,
                useSecurity=True,
                views=[view],
            )
            .put(ALWAYS, url=self._url)
        )

    def computers(self) -> Bean:
        nodes = [node for node in self._state.all_nodes() if not node.ghost]
        return (
            Bean("hudson.model.ComputerSet")
            .put(
                busyExecutors=sum(len(node.running) for node in nodes),
                displayName="Nodes",
                totalExecutors=sum(node.executors for node in nodes if node.connected),
            )
            .put(inline=True, computer=[self.computer(node) for node in nodes])
        )

    def computer(self, node: Node) -> Bean:
        cause = node.cause
        kind = "hudson.model.Hudson$MasterComputer" if node.built_in else "hudson.slaves.SlaveComputer"
        bean = Bean(kind).put(
            actions=[],
            assignedLabels=lazily(self._labels, node),
            description=node.description,
            displayName="Built-In Node" if node.built_in else node.name,
            executors=self._executors(node),
            icon=_icon(node),
            iconClassName=_icon(node),
            idle=not node.running and not node.removed,
            jnlpAgent=not node.built_in,
            launchSupported=node.built_in,
            loadStatistics=_load(),
            manualLaunchAllowed=True,
            monitorData={f"hudson.node_monitors.{name}Monitor": None for name in _MONITORS},
            numExecutors=0 if node.removed else node.executors,
            offline=node.offline or node.removed,
            offlineCause=_cause(node),
            offlineCauseReason="Node is being removed" if node.removed else cause.reason if cause else "",
            oneOffExecutors=self._flyweights() if node.built_in else [],
            temporarilyOffline=node.mark is not None,
        )
        return bean if node.built_in else bean.put(absoluteRemotePath=node.remote_fs if node.connected else None)

    def _executors(self, node: Node) -> list[Bean]:
        places: list[Build | None] = [*node.running]
        places += [None] * (node.executors - len(places))
        return [
            Bean().put(
                currentExecutable=lazily(self._executable, build),
                idle=build is None,
                likelyStuck=False,
                number=number,
                progress=-1,
            )
            for number, build in enumerate(places)
        ]

    def _executable(self, build: Build | None) -> Bean | None:
        if build is None or not self._reads_jobs:
            return None
        return (
            self.part(build, "$PlaceholderExecutable", self._url) if build.job.kind == "pipeline" else self.build(build)
        )

    def _flyweights(self) -> list[Bean]:
        runs = [build for job in self._state.jobs.values() if job.kind == "pipeline" for build in job.builds.values()]
        return [Bean().put(currentExecutable=lazily(self._run_of, run), number=-1) for run in runs if run.building]

    def _run_of(self, build: Build) -> Bean | None:
        return self.build(build) if self._reads_jobs else None

    def _labels(self, node: Node) -> list[Bean]:
        if node.removed:
            return []
        names = [node.name, *sorted(node.labels - {node.name})]
        return [
            self._label(name, [other for other in self._state.all_nodes() if name in other.labels]) for name in names
        ]

    def label(self, label: Label) -> Bean:
        bean = self._label(label.name, self._state.nodes_of(label))
        bean.kind = "hudson.model.labels.LabelAtom"
        return bean

    def _label(self, name: str, nodes: list[Node]) -> Bean:
        online = [node for node in nodes if not node.offline]
        tied = [
            job for _, job in sorted(self._state.jobs.items()) if job.kind == "freestyle" and job.label_text == name
        ]
        return (
            Bean()
            .put(2, name=name)
            .put(
                actions=[],
                busyExecutors=sum(len(node.running) for node in online),
                clouds=[],
                description=None,
                idleExecutors=sum(node.idle_executors for node in online),
                loadStatistics=_load(),
                nodes=[self._node(node) for node in nodes],
                offline=not online,
                tiedJobs=[self.job(job) for job in tied] if self._reads_jobs else [],
                totalExecutors=sum(node.executors for node in online),
                propertiesList=[],
            )
        )

    def _node(self, node: Node) -> Bean:
        kind = "hudson.model.Hudson" if node.built_in else "hudson.slaves.DumbSlave"
        bean = Bean(kind).put(2, nodeName="" if node.built_in else node.name)
        return bean.put(
            assignedLabels=lazily(self._labels, node),
            mode="EXCLUSIVE" if node.exclusive else "NORMAL",
            nodeDescription=node.description,
            numExecutors=node.executors,
        )


def _icon(node: Node) -> str:
    if node.mark is not None:
        return "symbol-computer-disconnected"
    return "symbol-computer-offline" if node.offline else "symbol-computer"


def _cause(node: Node) -> Bean | None:
    if node.removed:
        return Bean("hudson.slaves.OfflineCause$SimpleOfflineCause").put(description="Node is being removed")
    cause = node.cause
    if cause is None:
        return None
    bean = Bean(cause.kind).put(timestamp=millis(cause.at))
    if cause.marked_by is None:
        return bean
    by = f"Disconnected by {cause.marked_by}"
    return bean.put(description=f"{by} : {cause.reason}" if cause.reason else by)


def _load() -> Bean:
    point = Bean().put(history=[0.0], latest=0.0)
    series = Bean().put(hour=point, min=point, sec10=point)
    return Bean("hudson.model.Label$1").put(**dict.fromkeys(_SERIES, series))
