"""Tells Redis of many cancels at once."""

from collections.abc import Mapping, Sequence

from app.core.ids import TaskId
from app.queue import keys
from app.queue.connect import queue_errors
from app.queue.task_queue import TaskQueue


async def tell_cancels(
    queue: TaskQueue, *, cancelled: Mapping[str, Sequence[TaskId]], running: Sequence[TaskId]
) -> None:
    """One round trip for all of them.

    Args:
        queue: Redis.
        cancelled: By queue, ids that waited there and have ended: they leave it, and who waits for the end is told.
        running: Ids that run: their workers are told to stop them, and who listens that they are asked to.

    Raises:
        QueueUnavailable: Redis cannot serve.
    """
    with queue_errors():
        async with queue.redis.pipeline(transaction=False) as pipe:
            for name, task_ids in cancelled.items():
                pipe.zrem(keys.queue(name), *task_ids)
                pipe.delete(*(keys.job(task_id) for task_id in task_ids))
                pipe.publish(keys.ENDED_CHANNEL, " ".join(task_ids))
            for task_id in running:
                pipe.publish(keys.CANCEL_CHANNEL, task_id)
            if running and queue.audience.present:
                pipe.publish(keys.CHANGED_CHANNEL, " ".join(running))
            await pipe.execute()
