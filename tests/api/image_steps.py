"""What the tests of `sibling image` share: images as builds leave them, and the client run against a service."""

from __future__ import annotations

import json

from agent.requests import ImageBuildRequest, ImagePushRequest
from tests.api import client_process
from tests.fakes.build_server import BuildServer, FakeBuild

MODELS = {"/v1/images/builds": ImageBuildRequest, "/v1/images/pushes": ImagePushRequest}
ID = "sha256:" + "1" * 64
DIGEST = "sha256:" + "2" * 64
IMAGE = {
    "id": ID,
    "digest": None,
    "size": 12_300_000,
    "tags": ["docker.io/library/app:1"],
    "pushed": [],
    "bases": [{"reference": "docker.io/library/busybox:1", "digest": None}],
    "steps": [
        {"name": "[1/2] FROM docker.io/library/busybox:1", "cached": True, "seconds": 0.0},
        {"name": "[2/2] RUN make", "cached": False, "seconds": 3.0},
    ],
}
PUSHED = {**IMAGE, "digest": DIGEST, "pushed": [{"reference": "registry.example/app:1", "digest": DIGEST}]}


def built(*steps, image=IMAGE, **more):
    """A build that succeeds, with a log of these steps."""
    return FakeBuild(steps, exit_code=None, image_build=image, **more)


def run_image(*arguments, build=None, **process):
    """Run `sibling image ...` to its end against a service with that build; how it ended, and the service."""
    with BuildServer(build or built()) as server:
        ended = client_process.run("image", arguments[0], "--url", server.url, *arguments[1:], **process)
    return ended, server


def posted(server, path_end="/v1/images/builds"):
    """The request that the service got, which the real one would take."""
    request = json.loads(server.wait_for("POST", path_end)[0].body)
    MODELS[path_end].model_validate(request)
    return request
