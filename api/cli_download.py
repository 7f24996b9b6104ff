"""The `sibling` client as one file, for machines that have nothing but Python."""

from fastapi import APIRouter, Response
from starlette.responses import RedirectResponse

from agent.threads import in_thread
from api import client_zipapp

router = APIRouter(prefix="/cli", tags=["client"])
_ZIP = "application/zip"


@router.get(
    "", status_code=308, operation_id="findClient", summary="Where the client is", response_class=RedirectResponse
)
async def redirect() -> RedirectResponse:
    """Leads to `/cli/sibling`."""
    return RedirectResponse("/cli/sibling", 308)


@router.get(
    "/sibling",
    operation_id="downloadClient",
    summary="Download the client",
    response_class=Response,
    responses={
        200: {"description": "A zipapp.", "content": {_ZIP: {"schema": {"type": "string", "format": "binary"}}}}
    },
)
async def download() -> Response:
    """A Python program in one file: `curl -fO .../cli/sibling && python3 sibling --help`. Needs no token."""
    content = await in_thread(client_zipapp.zipapp)
    return Response(content, headers={"Content-Disposition": 'attachment; filename="sibling"'}, media_type=_ZIP)
