"""GET /metrics."""

from app.api.endpoint import Reply
from app.services.backend import Backend
from app.services.expose import expose
from app.telemetry.exposition import MEDIA_TYPE


async def get_metrics(backend: Backend) -> Reply:
    """For Prometheus; see docs/observability.md."""
    return Reply(await expose(backend), media_type=MEDIA_TYPE)
