"""How the service is: for whoever keeps it running, for load balancers, for Prometheus."""

from fastapi import APIRouter, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from agent.service import VERSION
from api.auth import Admin, Reader
from api.dependencies import ServiceHere
from api.health_views import Health, Readiness, StatusView
from api.problems import described

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="getHealth", summary="Whether the process answers")
async def health() -> Health:
    """Always `ok`; needs no token and looks at nothing."""
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Whether builds can be run now",
    responses={503: {"model": Readiness, "description": "Something that the service needs is not there."}},
)
async def readiness(service: ServiceHere, response: Response) -> Readiness:
    """Each thing that the service depends on, by name, with the reason if it is not well. Needs no token."""
    found = Readiness.of(await service.checks())
    if not found.ready:
        response.status_code = 503
    return found


@router.get(
    "/v1/status", operation_id="getStatus", summary="The whole service at one look", responses=described(401, 403)
)
async def status(service: ServiceHere, _: Reader) -> StatusView:
    """Engine, slots, queue, disk and memory."""
    return StatusView.of(await service.status(), VERSION)


@router.post(
    "/v1/drain",
    status_code=202,
    operation_id="drain",
    summary="Start nothing more",
    responses=described(401, 403),
)
async def drain(service: ServiceHere, _: Admin) -> StatusView:
    """Take no builds, start no agents; what runs goes on. `queue` and `slots` tell when it is done."""
    service.drain()
    return StatusView.of(await service.status(), VERSION)


@router.delete("/v1/drain", operation_id="undrain", summary="Take builds again", responses=described(401, 403))
async def undrain(service: ServiceHere, _: Admin) -> StatusView:
    """End a drain."""
    service.drain(on=False)
    return StatusView.of(await service.status(), VERSION)


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
async def metrics(service: ServiceHere) -> Response:
    """Counters of builds and gauges of the present; nothing of any one build. Needs no token."""
    return Response(await service.render_metrics(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
