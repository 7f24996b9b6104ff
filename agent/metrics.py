"""What Prometheus is told. Gauges of the present are read from the truth when asked; only events are counted here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agent.builds import BuildState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.builds import Build
    from agent.host import Host

# From a cached no-op to a day.
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 900, 3600, 14400, 86400)


class Metrics:
    """One registry per service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._builds = Counter(
            "sibling_builds", "Finished builds by result and reason.", ("result", "reason"), registry=self.registry
        )
        self._phases = Histogram(
            "sibling_build_phase_seconds",
            "Time that finished builds spent in a phase.",
            ("phase",),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._states = Gauge("sibling_builds_now", "Builds by state, but finished.", ("state",), registry=self.registry)
        self._slots = Gauge("sibling_slots", "Builds that may run at once.", registry=self.registry)
        self._memory = Gauge("sibling_host_memory_available_bytes", "Memory available.", registry=self.registry)
        self._disk = Gauge("sibling_data_free_bytes", "Space left on the data volume.", registry=self.registry)
        self._engine = Gauge("sibling_engine_up", "1 if the engine answered at the last look.", registry=self.registry)
        self.reaped = Counter(
            "sibling_reaped", "Leftovers that the reaper removed, by kind.", ("kind",), registry=self.registry
        )

        self._image_steps = Counter(
            "sibling_image_steps",
            "Steps of image builds, by whether the cache had them.",
            ("cached",),
            registry=self.registry,
        )
        self._pushes = Counter("sibling_image_pushes", "Tags that registries took.", registry=self.registry)
        self.second_builds = Counter(
            "sibling_agent_second_builds",
            "Builds that came to an agent which had run one already.",
            registry=self.registry,
        )
        self.docker = Counter(
            "sibling_docker_access",
            "Docker sockets that builds were given, by level.",
            ("level",),
            registry=self.registry,
        )
        self.gate_refusals = Counter(
            "sibling_gate_refusals",
            "What builds asked of Docker and did not get, by rule.",
            ("rule",),
            registry=self.registry,
        )
        self.cancelled_items = Counter(
            "sibling_cancelled_items",
            "Queue items that were cancelled because their agent cannot be had.",
            registry=self.registry,
        )
        self._controller: Gauge | None = None  # made with the first value: a service may have no controller

    def finished(self, build: Build) -> None:
        """Count a finished build."""
        if build.outcome is not None:
            self._builds.labels(build.outcome.result, build.outcome.reason or "").inc()
        for phase, seconds in build.phases.items():
            self._phases.labels(phase).observe(seconds)
        if build.image is not None:
            for step in build.image.steps:
                self._image_steps.labels(str(step.cached).lower()).inc()
            self._pushes.inc(len(build.image.pushed))

    def render(
        self,
        counts: Mapping[BuildState, int],
        slots: int,
        host: Host,
        *,
        engine_up: bool,
        controller_up: bool | None = None,
    ) -> bytes:
        """The page in Prometheus' text format 0.0.4, with the present as given; a service may have no controller."""
        for state in (BuildState.QUEUED, BuildState.PREPARING, BuildState.CONNECTED, BuildState.RUNNING):
            self._states.labels(state).set(counts.get(state, 0))
        self._slots.set(slots)
        self._memory.set(host.memory_available)
        self._disk.set(host.disk_free)
        self._engine.set(engine_up)
        if controller_up is not None:
            if self._controller is None:
                about = "1 if the controller answered at the last look."
                self._controller = Gauge("sibling_controller_up", about, registry=self.registry)
            self._controller.set(controller_up)
        return generate_latest(self.registry)
