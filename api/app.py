"""The web application: the core's service behind HTTP."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from agent.service import VERSION
from api import artifacts, builds, cli_download, health, images, layers, logs, problems, sources
from api import tokens as token_exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.service import Service
    from agent.tokens import TokenVerifier

_DESCRIPTION = """\
Runs each build in a fresh sibling container, on the Docker Engine beside this service, and streams its log.

Every call but those under **health**, **tokens** and **client** needs a token: `Authorization: Bearer sbl_...`. Errors
are problems as in RFC 9457.
"""
_TAGS = [
    {"name": "builds", "description": "Submit builds, watch them, cancel them."},
    {"name": "images", "description": "Build images and push them."},
    {"name": "logs", "description": "What builds wrote."},
    {"name": "sources", "description": "Trees that builds start from."},
    {"name": "artifacts", "description": "Files that builds left."},
    {"name": "tokens", "description": "Tokens for builds of a controller."},
    {"name": "health", "description": "How the service is."},
    {"name": "client", "description": "The command line client."},
]


def create_app(service: Service, tokens: TokenVerifier) -> FastAPI:
    """The ASGI application over a service that it runs as long as itself; `tokens` tells who calls."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    # The documentation pages load their scripts from a CDN, which machines without one cannot.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    app.state.tokens = tokens
    for module in (builds, images, logs, sources, artifacts, token_exchange, health, cli_download):
        app.include_router(module.router, responses=problems.described())
    problems.install(app)
    # Each is outside of those before it.
    app.add_middleware(layers.BodyLimit, unlimited=sources.router.prefix)
    app.add_middleware(layers.Faults)
    app.add_middleware(layers.AnswerHeaders)
    app.add_middleware(layers.RequestLog)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title="Sibling", version=VERSION, description=_DESCRIPTION, tags=_TAGS, routes=app.routes)
        problem = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"] |= {**problem.pop("$defs"), "Problem": problem}
        app.openapi_schema = schema
    return app.openapi_schema
