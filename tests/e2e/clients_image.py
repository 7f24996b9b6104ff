"""An image with what people use Docker with: the command line, buildx, compose, docker-py and Testcontainers."""

import importlib.metadata
import io
import os
import shutil
import tarfile
from pathlib import Path

import docker

NAME = "sibling-test/docker-clients:1"
RYUK = "sibling-test/ryuk:1"
_BASE = "sibling-test/debian:1"
_PLUGINS = "/usr/libexec/docker/cli-plugins"
_LIBRARIES = "/usr/lib/python3/dist-packages"
_PACKAGES = (
    "docker", "requests", "urllib3", "idna", "certifi", "charset-normalizer",
    "testcontainers", "wrapt", "typing-extensions", "python-dotenv",
)  # fmt: skip
_RYUK = f'FROM {_BASE}\nCOPY . /\nENTRYPOINT ["python3", "/usr/bin/ryuk.py"]\n'
_DOCKERFILE = f"FROM {_BASE}\nCOPY . /\nUSER 1000:1000\n"


def make(docker_host):
    """Make the image on the engine, and the one of Ryuk; returns its name."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w", dereference=True) as tar:
        for name, text in (("Dockerfile", _DOCKERFILE), ("Dockerfile.ryuk", _RYUK)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
        tar.add(Path(__file__).with_name("ryuk.py"), "usr/bin/ryuk.py")
        tar.add(shutil.which("docker"), "usr/bin/docker")
        for plugin in ("docker-compose", "docker-buildx"):
            tar.add(Path(os.environ["DOCKER_CONFIG"]) / "cli-plugins" / plugin, f"{_PLUGINS}/{plugin}")
        for file, name in _files():
            tar.add(file, f"{_LIBRARIES}/{name}")
    engine = docker.DockerClient(base_url=docker_host, version="1.45")
    for tag, dockerfile in ((NAME, "Dockerfile"), (RYUK, "Dockerfile.ryuk")):
        context.seek(0)
        engine.images.build(fileobj=context, custom_context=True, dockerfile=dockerfile, tag=tag, rm=True, forcerm=True)
    engine.close()
    return NAME


def _files():
    """The packages' files; not the compiled ones, which are for another Python, and which all can do without."""
    for package in _PACKAGES:
        distribution = importlib.metadata.distribution(package)
        for file in distribution.files:
            if file.suffix not in {".so", ".pyc"} and ".." not in file.parts:
                yield distribution.locate_file(file), str(file)
