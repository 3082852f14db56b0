"""What can be done with task ids in Redis: dispatch, claim, settle, withdraw, signal."""

import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from arq.connections import ArqRedis

from app.core.attempt import Claim
from app.core.clock import to_ms, utc_now
from app.core.ids import TaskId, new_lease_token
from app.queue import keys
from app.queue.audience import Audience
from app.queue.connect import encode_job, queue_errors
from app.queue.queue_settings import SettingsMemory, SettingsQueue
from app.queue.scripts import Ending, Scripts

JOB_FUNCTION = "task"
"""The `function` of every arq job: the task's type is in MongoDB."""


_REBUILD_TTL_S = 3600


@dataclass(frozen=True, slots=True)
class Entry:
    """A task that waits: its id, where, from when on, and how urgent."""

    task_id: TaskId
    queue: str
    run_at: datetime
    priority: int


@dataclass(frozen=True, slots=True)
class RedisIdentity:
    """One life of one Redis.

    Attributes:
        run_id: Changes with every start.
        knows_all: False when it was wiped, restarted or replaced since the last rebuild.
    """

    run_id: str
    knows_all: bool


class TaskQueue:
    """The queues in one Redis. Every method raises QueueUnavailable when Redis cannot serve.

    Args:
        redis: The connections.
        memory: What claims know of the settings of queues, should Redis have forgotten them.
    """

    def __init__(self, redis: ArqRedis, memory: SettingsMemory | None = None) -> None:
        self.redis = redis
        self.audience = Audience()
        self.memory = memory or SettingsMemory()
        self.settings = SettingsQueue(redis)
        self._scripts = Scripts(redis)

    async def ping(self) -> None:
        """Return when Redis answers."""
        with queue_errors():
            await self.redis.ping()

    async def dispatch(self, entries: Iterable[Entry], *, only_missing: bool = False) -> None:
        """Queue ids and wake the workers of their queues.

        Queueing an id that is queued already only moves it to the time given; one that is running is dropped by the
        next claim.

        Args:
            entries: What to queue.
            only_missing: Leave ids alone that are queued already.
        """
        now_ms = to_ms(utc_now())
        scores: dict[str, dict[str, float]] = defaultdict(dict)
        earliest: dict[str, int] = {}
        with queue_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for entry in entries:
                    due_ms = to_ms(entry.run_at)
                    scores[entry.queue][entry.task_id] = keys.score(due_ms, entry.priority, now_ms)
                    earliest[entry.queue] = min(due_ms, earliest.get(entry.queue, due_ms))
                    ttl_ms = max(0, due_ms - now_ms) + Scripts.JOB_TTL_MS
                    pipe.set(keys.job(entry.task_id), _job_body(entry.task_id, now_ms), px=ttl_ms)
                for queue, members in scores.items():
                    pipe.zadd(keys.queue(queue), members, nx=only_missing)
                    pipe.publish(keys.wake_channel(queue), earliest[queue])
                if self.audience.present and not only_missing:
                    pipe.publish(keys.CHANGED_CHANNEL, " ".join(id_ for members in scores.values() for id_ in members))
                await pipe.execute()

    async def known(self, ids: Iterable[tuple[str, TaskId]]) -> set[TaskId]:
        """Which ids, each given with its queue, wait there to be claimed."""
        by_queue: dict[str, list[str]] = defaultdict(list)
        for queue, task_id in ids:
            by_queue[queue].append(task_id)
        with queue_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for queue, task_ids in by_queue.items():
                    pipe.zmscore(keys.queue(queue), task_ids)
                answers = await pipe.execute()
        return {
            TaskId(task_id)
            for task_ids, scores in zip(by_queue.values(), answers, strict=True)
            for task_id, score in zip(task_ids, scores, strict=True)
            if score is not None
        }

    async def claim(self, queue: str, *, limit: int, lease: timedelta) -> tuple[Claim, datetime | None]:
        """Take up to `limit` due ids under a new lease, as far as the settings of the queue allow.

        Returns:
            The claim, which may be empty, and by this machine's clock the moment to look again: when the next deferred
            id is due, or the rate of the queue lets more start.
        """
        token, lease_ms = new_lease_token(), round(lease.total_seconds() * 1000)
        with queue_errors():
            claimed = await self._scripts.claim(
                queue, limit=limit, lease_ms=lease_ms, token=token, settings=self.memory.text(queue)
            )
        self.memory.learn(queue, claimed.settings)
        look_at = None
        if claimed.look_at_ms is not None:
            look_at = utc_now() + timedelta(milliseconds=claimed.look_at_ms - claimed.now_ms)
        return Claim(queue, token, claimed.task_ids), look_at

    async def settle(self, queue: str, endings: Sequence[Ending]) -> None:
        """End leases: ids that are due again go back to the queue and wake its workers, others have ended.

        Whoever waits for those is told.
        """
        with queue_errors():
            await self._scripts.settle(queue, endings, now_ms=to_ms(utc_now()))
            due = [ending.due_ms for ending in endings if ending.due_ms is not None]
            if due:
                await self.redis.publish(keys.wake_channel(queue), min(due))

    async def identity(self) -> RedisIdentity:
        """Which Redis this is, and whether it has been told of every waiting task."""
        with queue_errors():
            run_id: str = (await self.redis.info("server"))["run_id"]
            known = await self.redis.get(keys.EPOCH)
        return RedisIdentity(run_id, knows_all=known is not None and known.decode() == run_id)

    async def begin_rebuild(self, identity: RedisIdentity) -> str:
        """Note that Redis is about to be told of every waiting task; returns what `end_rebuild` needs."""
        mark = f"{identity.run_id} {secrets.token_hex(8)}"
        with queue_errors():
            await self.redis.set(keys.REBUILD, mark, ex=_REBUILD_TTL_S)
        return mark

    async def end_rebuild(self, mark: str) -> bool:
        """Note that Redis has been told; False when it was wiped or restarted meanwhile and has to be told again."""
        with queue_errors():
            return await self._scripts.end_rebuild(mark)

    async def withdraw(self, queue: str, task_ids: Sequence[TaskId]) -> None:
        """Take ids that wait out of a queue."""
        with queue_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.zrem(keys.queue(queue), *task_ids)
                pipe.delete(*(keys.job(task_id) for task_id in task_ids))
                await pipe.execute()

    async def signal_cancel(self, task_id: TaskId) -> None:
        """Tell the worker that runs the task to stop it."""
        with queue_errors():
            await self.redis.publish(keys.CANCEL_CHANNEL, task_id)

    async def signal_ended(self, task_ids: Sequence[TaskId]) -> None:
        """Tell whoever waits for them that tasks are terminal."""
        with queue_errors():
            await self.redis.publish(keys.ENDED_CHANNEL, " ".join(task_ids))

    async def signal_changed(self, task_ids: Sequence[TaskId]) -> None:
        """Tell whoever listens that tasks changed without becoming terminal; nothing is sent while nobody does."""
        if task_ids and self.audience.present:
            with queue_errors():
                await self.redis.publish(keys.CHANGED_CHANNEL, " ".join(task_ids))

    async def signal_audience(self) -> None:
        """Tell every process that somebody listens here."""
        with queue_errors():
            await self.redis.publish(keys.AUDIENCE_CHANNEL, "")


def _job_body(task_id: TaskId, enqueued_ms: int) -> bytes:
    return encode_job({"t": None, "f": JOB_FUNCTION, "a": [task_id], "k": {}, "et": enqueued_ms})
