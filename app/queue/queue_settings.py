"""The settings of queues as Redis carries them for the claim script. The truth is in MongoDB.

A text a queue: `version paused max_running per_second burst run_id`, separated by spaces, 0 where nothing is set. The
run id is that of the Redis which knows every lease of the queue: until it is that of the Redis at hand, a queue with
`max_running` gives nothing away, since after a wipe or a restart nobody there could count what runs.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from arq.connections import ArqRedis

from app.core.clock import to_ms, utc_now
from app.core.ids import LeaseToken, TaskId
from app.core.queue_settings import QueueSettings
from app.queue import keys
from app.queue.connect import queue_errors
from app.queue.scripts import RENEW, TELL_SETTINGS, renew_arguments

UNKNOWN = "?"
"""Stands for settings that this process has not heard of yet; the claim script then asks whether Redis knows all."""

Held = tuple[TaskId, LeaseToken, datetime]
"""A lease: the task, its token, and until when it lasts."""


def to_text(settings: QueueSettings) -> str:
    """The settings without the run id, which is Redis' to say."""
    rate = settings.rate
    per_second, burst = (0.0, 0) if rate is None else (rate.per_second, rate.burst)
    return f"{settings.version} {int(settings.paused)} {settings.max_running or 0} {per_second!r} {burst}"


class SettingsMemory:
    """What a process last heard of the settings of queues: they hold while Redis has forgotten them.

    Args:
        complete: False while a queue of which nothing is known may well have settings.
    """

    def __init__(self, *, complete: bool = True) -> None:
        self._complete = complete
        self._texts: dict[str, str] = {}

    def text(self, queue: str) -> str:
        """What the claim script should take for the settings when Redis has none or older ones."""
        return self._texts.get(queue, "" if self._complete else UNKNOWN)

    def learn(self, queue: str, text: str) -> None:
        """Remember what Redis said; an empty text says nothing."""
        if text:
            self._texts[queue] = text

    def learn_all(self, settings: Iterable[QueueSettings]) -> None:
        """Remember what MongoDB says about all queues that matter here."""
        self._texts.update({each.name: f"{to_text(each)} -" for each in settings if each.version})
        self._complete = True


class SettingsQueue:
    """Tells Redis of settings. Every method raises QueueUnavailable when Redis cannot serve."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis
        self._tell = redis.register_script(TELL_SETTINGS)
        self._renew = redis.register_script(RENEW)

    async def told(self, names: Sequence[str]) -> list[str]:
        """The texts that Redis has, empty where it has none."""
        with queue_errors():
            texts = await self._redis.mget([keys.settings(name) for name in names])
        return ["" if text is None else text.decode() for text in texts]

    async def tell(self, settings: QueueSettings, *, instead_of: str = "", run_id: str = "") -> bool:
        """Have settings take effect and wake the queue's workers; False when Redis has these or newer ones.

        Args:
            settings: What shall hold.
            instead_of: A text that goes even where it is newer: it is from another life of MongoDB.
            run_id: Of the Redis that knows every lease of the queue; unless given, the Redis at hand does if it was
                told of everything else.
        """
        with queue_errors():
            told = await self._tell(
                keys=[keys.settings(settings.name), keys.EPOCH],
                args=[to_text(settings), instead_of, run_id, keys.wake_channel(settings.name)],
            )
        return bool(told)

    async def restore_leases(self, queue: str, held: Sequence[Held]) -> None:
        """Tell Redis of leases that it may have forgotten; one that it knows under another token stays."""
        if not held:
            return
        lease_ms = max(to_ms(until) for _, _, until in held) - to_ms(utc_now())
        names, args = renew_arguments(
            queue, [(task_id, token) for task_id, token, _ in held], lease_ms=max(1, lease_ms)
        )
        with queue_errors():
            await self._renew(keys=names, args=args)
