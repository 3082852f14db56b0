"""Arqive: a durable task queue that runs as a service.

What the code of a task needs is here: `task` registers a handler, `Context` is its first parameter, `Retry` and `Fail`
are raised by it, `Backoff` sets its delays.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.core.backoff import Backoff
    from app.core.outcomes import Fail, Retry
    from app.services.context import Context
    from app.tasks.registry import task

__all__ = ["Backoff", "Context", "Fail", "Retry", "task"]

_HOMES = {
    "Backoff": "app.core.backoff",
    "Context": "app.services.context",
    "Fail": "app.core.outcomes",
    "Retry": "app.core.outcomes",
    "task": "app.tasks.registry",
}


def __getattr__(name: str) -> object:
    # On first use: every command imports this package, and the health check of a container runs every few seconds.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
