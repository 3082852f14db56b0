"""Task types that log with the logging module, as user code does; loaded with TASK_MODULES=tests.logging_tasks."""

import logging
from typing import Any

from app import Context, task

logger = logging.getLogger(__name__)


@task("logging.async", max_attempts=1)
async def log_in_the_loop(_ctx: Context, _payload: dict[str, Any]) -> None:
    """Logs and fails."""
    logger.info("from the loop", extra={"order": 17})
    raise ValueError("cannot reach amqp://shop:hunter2@broker")


@task("logging.thread", max_attempts=1)
def log_in_a_thread(_ctx: Context, _payload: dict[str, Any]) -> None:
    """Logs from a thread."""
    logger.info("from a thread")


@task("logging.process", max_attempts=1, process=True)
def log_in_a_process(_ctx: Context, _payload: dict[str, Any]) -> None:
    """Logs from a process."""
    logger.info("from a process")
