"""The Lua scripts, each beside its typed stub. Redis runs each as one atomic step."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from arq.connections import ArqRedis

from app.core.ids import LeaseToken, TaskId
from app.queue import keys


def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


# Read at import, since reading a file would block the event loop.
_CLAIM, _SETTLE, RENEW = _source("claim.lua"), _source("settle.lua"), _source("renew.lua")
_END_REBUILD, TELL_SETTINGS = _source("end_rebuild.lua"), _source("tell_settings.lua")


@dataclass(frozen=True, slots=True)
class Claimed:
    """What one claim took.

    Attributes:
        now_ms: Redis' clock.
        look_at_ms: When to look again: the earliest deferred id is due, or a rate lets more start; or None.
        settings: The settings that hold, as a text; empty when there are none.
        task_ids: The ids, each under the lease that was asked for.
    """

    now_ms: int
    look_at_ms: int | None
    settings: str
    task_ids: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a lease in Redis; with a `due_ms` the id goes back to its queue, without it leaves Redis."""

    task_id: TaskId
    token: LeaseToken
    priority: int = 0
    due_ms: int | None = None


class Scripts:
    """The scripts, loaded once for one connection pool."""

    JOB_TTL_MS = 86_400_000

    def __init__(self, redis: ArqRedis) -> None:
        self._claim = redis.register_script(_CLAIM)
        self._settle = redis.register_script(_SETTLE)
        self._end_rebuild = redis.register_script(_END_REBUILD)

    async def claim(self, queue: str, *, limit: int, lease_ms: int, token: LeaseToken, settings: str) -> Claimed:
        """Take up to `limit` due ids of a queue under a lease of `lease_ms`, knowing its `settings`; see claim.lua."""
        reply: list[Any] = await self._claim(
            keys=[keys.queue(queue), keys.leases(queue), keys.settings(queue), keys.rate(queue), keys.EPOCH],
            args=[
                limit,
                lease_ms,
                token,
                keys.IN_PROGRESS_PREFIX,
                keys.READY_BAND,
                keys.AGEING_MS,
                keys.PRIORITY_STEPS,
                settings,
            ],
        )
        look_at_ms = int(reply[1])
        return Claimed(
            now_ms=int(reply[0]),
            look_at_ms=None if look_at_ms < 0 else look_at_ms,
            settings=reply[2].decode(),
            task_ids=tuple(TaskId(task_id.decode()) for task_id in reply[3:]),
        )

    async def settle(self, queue: str, endings: Sequence[Ending], *, now_ms: int) -> None:
        """End leases; see settle.lua."""
        args: list[str | int | float] = [
            keys.IN_PROGRESS_PREFIX, keys.JOB_PREFIX, keys.READY_BAND, keys.wake_channel(queue), keys.ENDED_CHANNEL
        ]  # fmt: skip
        for ending in endings:
            if ending.due_ms is None:
                args += [ending.task_id, ending.token, "", 0]
            else:
                score = keys.score(ending.due_ms, ending.priority, now_ms)
                ttl_ms = max(0, ending.due_ms - now_ms) + self.JOB_TTL_MS
                args += [ending.task_id, ending.token, score, ttl_ms]
        await self._settle(keys=[keys.queue(queue), keys.leases(queue), keys.settings(queue)], args=args)

    async def end_rebuild(self, mark: str) -> bool:
        """Turn a rebuild's mark into the epoch; see end_rebuild.lua."""
        return bool(await self._end_rebuild(keys=[keys.REBUILD, keys.EPOCH], args=[mark]))


def renew_arguments(
    queue: str, held: Sequence[tuple[TaskId, LeaseToken]], *, lease_ms: int
) -> tuple[list[str], list[str | int]]:
    """Keys and arguments for `RENEW`; see renew.lua. It answers the ids that another lease holds, as bytes."""
    args: list[str | int] = [lease_ms, keys.IN_PROGRESS_PREFIX]
    for task_id, token in held:
        args += [task_id, token]
    return [keys.queue(queue), keys.leases(queue)], args
