"""Every Redis key and channel. Scores are milliseconds since the Unix epoch by Redis' own clock.

The `arq:` keys have arq's layout, so that `arq.jobs.Job(id, redis, _queue_name=queue(name)).status()` tells the truth.

A waiting id is in one sorted set a queue, in one of two bands:

- ready, below `READY_BAND`: the score is `due - priority * AGEING_MS - READY_BAND`. Claims take the lowest first. So a
  task of priority p goes before tasks of priority 0 that became due up to p minutes earlier, and behind older ones: a
  low priority waits at most nine minutes longer for it, and never starves.
- deferred, from `READY_BAND` on: the score is `due + priority / 16`; the fraction carries the priority until the claim
  script moves the id to the ready band.
"""

from typing import Final

from app.core.ids import TaskId

READY_BAND: Final = 1_000_000_000_000
"""Scores below are ready; 1e12 ms is September 2001, before any due time."""

AGEING_MS: Final = 60_000
"""What one step of priority is worth in waiting time."""

PRIORITY_STEPS: Final = 16

JOB_PREFIX: Final = "arq:job:"
IN_PROGRESS_PREFIX: Final = "arq:in-progress:"


def job(task_id: TaskId) -> str:
    """String: arq's job body as JSON, with the task's id and nothing else. TTL: a day past the due time."""
    return JOB_PREFIX + task_id


def in_progress(task_id: TaskId) -> str:
    """String: the token of the lease that the id is running under. TTL: the lease."""
    return IN_PROGRESS_PREFIX + task_id


def queue(name: str) -> str:
    """Sorted set of waiting ids by score, see above. No TTL; Redis removes it when it is empty."""
    return f"arq:queue:{name}"


def leases(name: str) -> str:
    """Sorted set of running ids, scored by the end of their lease. No TTL; Redis removes it when it is empty."""
    return f"arqive:leases:{name}"


def settings(name: str) -> str:
    """String: what is set on the queue, see queue_settings.py. No TTL; absent when nothing was ever set."""
    return f"arqive:settings:{name}"


def rate(name: str) -> str:
    """String: when the queue's bucket of tokens will be full, in milliseconds with a fraction. TTL: until then."""
    return f"arqive:rate:{name}"


def wake_channel(name: str) -> str:
    """Channel: the earliest due time among ids that were just queued, in milliseconds."""
    return f"arqive:wake:{name}"


EPOCH: Final = "arqive:epoch"
"""String: the run id of the Redis that was told of every waiting task. No TTL. Its absence means that Redis was wiped,
another run id that it was restarted or replaced and may have lost the last writes."""

REBUILD: Final = "arqive:rebuild"
"""String: who is telling Redis of every waiting task, an hour's TTL. It becomes the epoch at the end, unless Redis has
been wiped since."""

CANCEL_CHANNEL: Final = "arqive:cancel"
"""Channel: the id of a running task that a client wants stopped."""

ENDED_CHANNEL: Final = "arqive:ended"
"""Channel: ids of tasks that became terminal, separated by spaces."""

CHANGED_CHANNEL: Final = "arqive:changed"
"""Channel: ids of tasks that changed without becoming terminal, separated by spaces; silent while nobody listens."""

AUDIENCE_CHANNEL: Final = "arqive:audience"
"""Channel: a web process has clients that listen to changes, and will say so again within seconds."""


def score(due_ms: int, priority: int, now_ms: int) -> float:
    """The score of a waiting id; see the module's description."""
    if due_ms <= now_ms:
        return float(due_ms - priority * AGEING_MS - READY_BAND)
    return due_ms + priority / PRIORITY_STEPS
