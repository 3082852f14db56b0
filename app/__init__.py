"""Arqive: a durable task queue that runs as a service.

What the code of a task needs is here: `task` registers a handler, `Context` is its first parameter, `Retry` and `Fail`
are raised by it, `Backoff` sets its delays.
"""

from app.core.backoff import Backoff
from app.core.outcomes import Fail, Retry
from app.services.context import Context
from app.tasks.registry import task

__all__ = ["Backoff", "Context", "Fail", "Retry", "task"]
