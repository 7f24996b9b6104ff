"""What every test may ask for."""

import os
import signal

import docker
import pytest

# Started under nohup, or by a CI that ignores it, the programs under test would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

BUSYBOX = "sibling-test/busybox:1"  # made by scripts/test-images


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def docker_host():
    """The address of a Docker Engine that answers and has the test images."""
    host = os.environ.get("DOCKER_HOST")
    if not host:
        pytest.fail("This test needs a Docker Engine, and DOCKER_HOST is not set. Run `make test`.")
    try:
        with docker.APIClient(base_url=host, version="1.45") as engine:
            engine.inspect_image(BUSYBOX)
    except (docker.errors.DockerException, OSError) as error:
        pytest.fail(f"This test needs a Docker Engine with {BUSYBOX} at {host}: {error}. Run `make test`.")
    return host


@pytest.fixture(scope="session")
def java(tmp_path_factory):
    """A Java for agents, linked once for all services of the tests: each then only copies it."""
    from agent.toolkit.java import find_java, make_runtime

    folder = tmp_path_factory.mktemp("java")
    make_runtime(find_java(None), folder)
    return folder / "jre"
