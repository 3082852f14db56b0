"""Waits for tasks to become terminal: woken by a signal, with a look at the truth now and then in case one was lost."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from app.core.ids import TaskId

LOOK_S = 2.0
"""How often a waiter looks at MongoDB without being woken."""

MOST_EXPECTED = 10_000
"""Tasks whose end is expected; what was accepted before the last so many is looked at first, as any other task."""


class Endings:
    """Wakes whoever waits for a task, in this process.

    Attributes:
        closed: Whether nobody should wait any more.
    """

    def __init__(self) -> None:
        self.closed = False
        self._waiters: dict[TaskId, set[asyncio.Event]] = defaultdict(set)
        self._expected: dict[TaskId, None] = {}

    def expect(self, task_ids: Iterable[TaskId]) -> None:
        """These tasks are about to be accepted here, so that the signal of their end is still to come."""
        for task_id in task_ids:
            self._expected[task_id] = None
        while len(self._expected) > MOST_EXPECTED:
            del self._expected[next(iter(self._expected))]

    def expects(self, task_id: TaskId) -> bool:
        """Whether the signal of the task's end is still to come, so that a waiter need not look before it waits.

        Should the signal get lost, a waiter looks a little later, as one does who waited before.
        """
        return task_id in self._expected and not self.closed

    def on_signal(self, message: str) -> None:
        """A message of the channel: ids of tasks that became terminal, separated by spaces."""
        if self._waiters or self._expected:
            for task_id in map(TaskId, message.split()):
                self._expected.pop(task_id, None)
                for event in self._waiters.get(task_id, ()):
                    event.set()

    def wake_all(self) -> None:
        """Have every waiter look at the truth, now and before waiting: signals may have been missed."""
        self._expected.clear()
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
