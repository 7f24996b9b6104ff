"""A pull-through cache of a registry that the service runs for daemons: each image comes over the network once.

It is the registry of the image `daemon.mirror_image` (CNCF Distribution, "Registry as a pull through cache"), in a
container in the host's network, at the gateway of the builds' bridge: an address that every build reaches.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent import references
from agent.engine import LABEL_ROLE, LABEL_SERVICE
from agent.errors import EngineError
from agent.gate.subnets import gateway

if TYPE_CHECKING:
    from agent.gate.upstream import Upstream
    from agent.policy import Place
    from agent.settings.daemon import DaemonSettings

_ROLE = "mirror"
_LABEL_BODY = "sibling.mirror"  # which settings it was made with
_DATA = "/var/lib/registry"
_HUB = "https://registry-1.docker.io"
_READY, _PAUSE = 15.0, 0.1  # seconds
_MEMORY = 512 * 1024**2
_SAYS = b"listening on"


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """One of a service, started when the first daemon wants it; it and what it has stay for the next start."""

    upstream: Upstream
    settings: DaemonSettings
    place: Place
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def url(self) -> str | None:
        """What a daemon asks first: the cache, or `daemon.mirror` itself, or nothing. Raises EngineError."""
        if self.settings.mirror_image is None:
            return self.settings.mirror
        network = (await self.upstream.ask("GET", f"/networks/{self.place.network}")).done().json()
        address = f"{gateway(network)}:{self.settings.mirror_port}"
        async with self._starting:
            await self._have(self._body(self.settings.mirror_image, address))
        return f"http://{address}"

    @property
    def _name(self) -> str:
        """Of its container and of its volume."""
        return f"sibling-{_ROLE}-{self.place.service_id[:12]}"

    async def _have(self, body: dict[str, Any]) -> None:
        name = self._name
        there = await self.upstream.ask("GET", f"/containers/{name}/json")
        if there.ok and _is_running(there.json(), body):
            return
        await self.upstream.ask("DELETE", f"/containers/{name}", {"force": "1"})
        (await self.upstream.ask("POST", "/containers/create", {"name": name}, body)).done()
        (await self.upstream.ask("POST", f"/containers/{name}/start")).done()
        await self._listening(name)

    async def _listening(self, name: str) -> None:
        began = time.monotonic()
        while True:
            running = (await self.upstream.ask("GET", f"/containers/{name}/json")).done().json()["State"]["Running"]
            logs = await self.upstream.ask("GET", f"/containers/{name}/logs", {"stdout": "1", "stderr": "1"})
            if running and _SAYS in logs.content:
                return
            if not running or time.monotonic() - began > _READY:
                words = logs.content[-500:].decode("utf-8", "replace").strip()
                raise EngineError(f"the registry mirror of daemon.mirror_image does not serve; its last words: {words}")
            await asyncio.sleep(_PAUSE)

    def _body(self, image: str, address: str) -> dict[str, Any]:
        environment = {"HTTP_ADDR": address, "PROXY_REMOTEURL": self.settings.mirror or _HUB}
        environment |= {"STORAGE_FILESYSTEM_ROOTDIRECTORY": _DATA}
        body: dict[str, Any] = {
            "Image": str(references.parse(image)),
            "Env": [f"REGISTRY_{key}={value}" for key, value in environment.items()],
            "HostConfig": {
                "NetworkMode": "host",
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "ReadonlyRootfs": True,
                "Init": True,
                "Memory": _MEMORY,
                "PidsLimit": 256,
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "4m", "max-file": "1"}},
                "Mounts": [{"Type": "volume", "Source": self._name, "Target": _DATA}],
            },
        }
        digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()[:16]
        return {**body, "Labels": {LABEL_SERVICE: self.place.service_id, LABEL_ROLE: _ROLE, _LABEL_BODY: digest}}


def _is_running(found: dict[str, Any], body: dict[str, Any]) -> bool:
    """Whether it is one of this body, and runs."""
    made_with = (found["Config"]["Labels"] or {}).get(_LABEL_BODY)
    return bool(found["State"]["Running"]) and made_with == body["Labels"][_LABEL_BODY]
