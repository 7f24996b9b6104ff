"""Who calls, and whether they may: bearer tokens and their scopes, as dependencies of the routes."""

from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from agent.errors import InvalidSettings, NotFound, Unavailable
from agent.tokens import Scope, Token, TokenVerifier
from api.build_sockets import BUILD

_log = structlog.get_logger()
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    bearerFormat="sbl_<id>_<secret>",
    description="A token made by `sibling token create` or `POST /v1/tokens`. Its scopes: `builds:read`, "
    "`builds:write`, `admin` (all).",
)


class Allowed:
    """The caller's token, if it has the scope; else 401 or 403."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(
        self, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Token:
        """Check it; the token's name is left for the request log."""
        if BUILD in request.scope:
            caller = await inside(request)
            request.state.token = caller.name
            return caller
        if credentials is None:
            raise _unauthorized("Send a token: `Authorization: Bearer sbl_...`.", "Bearer")
        token = _verified(request.app.state.tokens, credentials.credentials)
        if token is None:
            raise _unauthorized("There is no such token; it may have been revoked.", 'Bearer error="invalid_token"')
        request.state.token = token.name
        if not token.allows(self._scope):
            raise HTTPException(
                403,
                f"The token {token.name} lacks the scope {self._scope}.",
                {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{self._scope}"'},
            )
        return token


# What a build may ask for through its own socket, if its path is of the build itself or of one that it asked for.
_INSIDE = frozenset(
    {
        *("submitBuild", "listBuilds", "getBuild", "cancelBuild", "readLog", "listArtifacts", "downloadArtifact"),
        *("uploadSource", "submitImageBuild", "submitImagePush", "listImages"),
    }
)


async def inside(request: Request) -> Token:
    """The build that calls through its socket. Raises NotFound for what is none of its own, as if it were not there."""
    service, build_id = request.app.state.service, request.scope[BUILD]
    if request.scope["route"].operation_id not in _INSIDE:
        raise HTTPException(403, "A build cannot ask for that through its socket; it needs a token of its own.")
    token: Token = await service.inside(build_id)
    asked = request.path_params.get("build_id")
    if asked not in {None, build_id} and (await service.build(asked)).parent != build_id:
        raise NotFound(f"There is no build {asked}. It may have been deleted because of its age.")
    return token


Reader = Annotated[Token, Depends(Allowed(Scope.READ))]
Writer = Annotated[Token, Depends(Allowed(Scope.WRITE))]
Admin = Annotated[Token, Depends(Allowed(Scope.ADMIN))]


def _unauthorized(detail: str, challenge: str) -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": challenge})


def _verified(tokens: TokenVerifier, text: str) -> Token | None:
    """The token. Raises Unavailable if none can be checked; why is for the admin's eyes, in the log."""
    try:
        return tokens.verify(text)
    except InvalidSettings as error:
        _log.error("no token can be checked", error=str(error))
        raise Unavailable(
            "No token can be checked now: the service's token file is missing or unusable, and its log says why. "
            "An admin makes one with `sibling token create`."
        ) from error
