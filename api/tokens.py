"""Tokens for builds of a controller, in exchange for their id tokens."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic needs it at run time

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.dependencies import ServiceHere  # noqa: TC001 - FastAPI needs it at run time
from api.problems import described
from api.views import moment

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])
MAX_ID_TOKEN = 16 * 1024  # characters; those of Jenkins have less than a thousand


class IdTokenRequest(BaseModel):
    """An id token. What else is sent beside it is not looked at, lest a refusal shows it."""

    id_token: str = Field(
        min_length=1,
        max_length=MAX_ID_TOKEN,
        description="As the issuer gave it to the build: a JSON Web Token, signed with RS256 or ES256.",
        examples=["eyJhbGciOiJSUzI1NiIsImtpZCI6InNpYmxpbmcifQ.eyJpc3MiOiJodHRwczovL2plbmtpbnMvb2lkYyJ9.c2lnbmF0dXJl"],
    )


class TokenView(BaseModel):
    """A token, whose text is shown this once."""

    token: str = Field(examples=["sbl_k2j4h6g8_nOtAtOkEn0123456789abcdefghijklmnopqrstuvwx"])
    name: str = Field(description="Whose builds and images those are that are made with it.", examples=["job:team/app"])
    expires_at: datetime


@router.post(
    "",
    status_code=201,
    operation_id="exchangeIdToken",
    summary="Exchange a build's id token for a token",
    responses=described(401, 403, 409, 413, 422, 503),
)
async def exchange(service: ServiceHere, request: Request, body: IdTokenRequest) -> TokenView:
    """Needs no token. Each build gets one, and a second exchange is refused with 409: keep it as long as it lasts."""
    exchanged = await service.exchange(body.id_token)
    request.state.token = exchanged.token.name  # for the request log
    return TokenView(token=exchanged.text, name=exchanged.token.name, expires_at=moment(exchanged.expires_at))
