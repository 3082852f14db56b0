"""GET /stats."""

from app.api.endpoint import Reply
from app.services.backend import Backend
from app.services.observe import collect_stats


async def get_stats(backend: Backend) -> Reply:
    """Counts."""
    return Reply(await collect_stats(backend))
