"""What routes are given besides the request: the service, and a build as the API shows it."""

from typing import Annotated

from fastapi import Depends, Request

from agent.builds import Build
from agent.service import Service
from api.views import BuildView


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceHere = Annotated[Service, Depends(_service)]


def view(service: Service, build: Build) -> BuildView:
    """The build as the API shows it."""
    # Not in a thread: looking at the log's size takes a tenth of the time that going there does.
    return BuildView.of(build, service.logs.size(build.id))
