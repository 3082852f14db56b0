"""Identifiers, each a type of its own so that one is never passed for another."""

import os
import re
import secrets
import socket
from typing import NewType

from app.core import limits
from app.core.errors import QueueNotFound, TaskNotFound

TaskId = NewType("TaskId", str)
"""24 lower-case hex digits: the hex form of the document's `_id`."""

LeaseToken = NewType("LeaseToken", str)
"""Names one lease; shared by the tasks that one claim took, and never used again."""

QueueName = NewType("QueueName", str)
"""The name of a queue."""

WorkerId = NewType("WorkerId", str)
"""Names one worker process from its start to its end."""

ScheduleName = NewType("ScheduleName", str)
"""What a client called a schedule; as it stands in a path it may be anything."""

_TASK_ID = re.compile(r"[0-9a-f]{24}")


def parse_task_id(text: str) -> TaskId:
    """Read a task id as a client wrote it; upper-case hex digits are accepted.

    Raises:
        TaskNotFound: no task can have this id.
    """
    lowered = text.lower()
    if not _TASK_ID.fullmatch(lowered):
        raise TaskNotFound(text)
    return TaskId(lowered)


def parse_queue_name(text: str) -> QueueName:
    """Read the name of a queue as a client wrote it in a path.

    Raises:
        QueueNotFound: no queue can have this name.
    """
    if len(text) > limits.MAX_NAME or not re.fullmatch(limits.NAME_PATTERN, text):
        raise QueueNotFound(text)
    return QueueName(text)


def new_lease_token() -> LeaseToken:
    """A token that no other lease has had: 96 random bits as 16 URL-safe characters."""
    return LeaseToken(secrets.token_urlsafe(12))


def new_worker_id() -> WorkerId:
    """Host and process id for people, 32 random bits for uniqueness.

    Random because container restarts reuse both host names and process ids, and a name that comes back hides what
    its earlier bearer left behind.
    """
    return WorkerId(f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
