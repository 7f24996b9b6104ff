"""Who calls, and whether they may: bearer tokens and their scopes, as dependencies of the routes."""

from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from agent.errors import InvalidSettings, Unavailable
from agent.tokens import Scope, Token, TokenVerifier

_log = structlog.get_logger()
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    bearerFormat="sbl_<id>_<secret>",
    description="A token made by `sibling token create`. Its scopes: `builds:read`, `builds:write`, `admin` (all).",
)


class Allowed:
    """The caller's token, if it has the scope; else 401 or 403."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(
        self, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Token:
        """Check it; the token's name is left for the request log."""
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
