"""Waits for tasks to become terminal: woken by a signal, with a look at the truth now and then in case one was lost."""

import asyncio
from collections import defaultdict

from app.core.ids import TaskId

LOOK_S = 2.0
"""How often a waiter looks at MongoDB without being woken."""


class Endings:
    """Wakes whoever waits for a task, in this process.

    Attributes:
        closed: Whether nobody should wait any more.
    """

    def __init__(self) -> None:
        self.closed = False
        self._waiters: dict[TaskId, set[asyncio.Event]] = defaultdict(set)

    def on_signal(self, message: str) -> None:
        """A message of the channel: ids of tasks that became terminal, separated by spaces."""
        if self._waiters:
            for task_id in message.split():
                for event in self._waiters.get(TaskId(task_id), ()):
                    event.set()

    def wake_all(self) -> None:
        """Have every waiter look at the truth: signals may have been missed."""
        for events in self._waiters.values():
            for event in events:
                event.set()

    def close(self) -> None:
        """End every wait, now and from now on: the process is shutting down."""
        self.closed = True
        self.wake_all()

    def watch(self, task_id: TaskId) -> asyncio.Event:
        """An event that is set when the task may have become terminal; give it back with `unwatch`."""
        event = asyncio.Event()
        self._waiters[task_id].add(event)
        return event

    def unwatch(self, task_id: TaskId, event: asyncio.Event) -> None:
        """Forget an event of `watch`."""
        events = self._waiters[task_id]
        events.discard(event)
        if not events:
            del self._waiters[task_id]
