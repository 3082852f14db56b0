"""What a handler gets to work with."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp

from app.core import limits
from app.core.clock import utc_now
from app.core.ids import TaskId
from app.core.text import storable
from app.services.sign import WebhookSigner
from app.store.documents import LogDocument, ProgressDocument


@dataclass(frozen=True, slots=True)
class HttpAccess:
    """The HTTP clients that the handlers of one worker share.

    Attributes:
        session: For handlers' own calls, to anywhere; connections are pooled, cookies are not kept.
        guarded: For calls whose address a client chose; refuses what `HTTP_ALLOW_PRIVATE` does not allow.
        signer: Signs callbacks; None where there is no secret.
    """

    session: aiohttp.ClientSession
    guarded: aiohttp.ClientSession
    signer: WebhookSigner | None = None


class Context:
    """One attempt, as its handler sees it. Safe to use from a handler's thread.

    Attributes:
        task_id: The same in every attempt: a key to be idempotent with.
        attempt: This attempt's number in the round, from 1.
        type: The task's type.
        queue: The task's queue.
        http: The worker's shared HTTP clients.
        traceparent: What other calls of the handler should send as the header of that name; None without a trace. The
            shared HTTP clients send it by themselves.
    """

    def __init__(
        self,
        *,
        task_id: TaskId,
        attempt: int,
        type: str,  # noqa: A002
        queue: str,
        http: HttpAccess,
        traceparent: str | None = None,
    ) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.type = type
        self.queue = queue
        self.http = http
        self.traceparent = traceparent
        self._lock = threading.Lock()
        self._stopping = False
        self._progress: ProgressDocument | None = None
        self._lines: deque[LogDocument] = deque(maxlen=limits.MAX_LOG_LINES)
        self._on_report: Callable[[], None] | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The worker's shared HTTP session."""
        return self.http.session

    @property
    def cancelled(self) -> bool:
        """Whether the attempt should stop: a cancel, its timeout or a shutdown.

        A coroutine is interrupted anyway; a handler in a thread has to look.
        """
        return self._stopping

    def progress(self, value: float, message: str = "") -> None:
        """Report how far the attempt is; readers see it within about a second.

        Args:
            value: 0 to 1.
            message: For people; cut at 500 characters.

        Raises:
            ValueError: `value` is not between 0 and 1.
        """
        if not 0 <= value <= 1:
            raise ValueError(f"progress must be between 0 and 1, not {value!r}")
        report: ProgressDocument = {
            "value": float(value),
            "message": storable(str(message), limits.MAX_PROGRESS_MESSAGE),
            "at": utc_now(),
        }
        with self._lock:
            self._progress = report
        self._report()

    def log(self, message: str) -> None:
        """Keep a line with the task; the last 100 are kept, each cut at 1,000 characters."""
        line: LogDocument = {
            "at": utc_now(),
            "attempt": self.attempt,
            "message": storable(str(message), limits.MAX_LOG_LINE),
        }
        with self._lock:
            self._lines.append(line)
        self._report()

    def _report(self) -> None:
        if self._on_report is not None:
            self._on_report()

    def on_report(self, callback: Callable[[], None]) -> None:
        """For the worker: call this, in any thread, when there is something to `take`."""
        self._on_report = callback

    def to_frame(self) -> dict[str, Any]:
        """For a handler process: what its own context is made with."""
        return {
            "task_id": self.task_id,
            "attempt": self.attempt,
            "type": self.type,
            "queue": self.queue,
            "traceparent": self.traceparent,
        }

    def hand_over(self) -> dict[str, Any]:
        """For a handler process: what was reported since the last call, as `take_over` reads it."""
        progress, lines = self.take()
        return {"progress": progress, "lines": lines}

    def take_over(self, reports: dict[str, Any]) -> None:
        """For the worker: what was reported to the context of a handler process, which is as if it was to this one."""
        progress = reports["progress"]
        lines: list[LogDocument] = [
            {"at": datetime.fromisoformat(line["at"]), "attempt": self.attempt, "message": line["message"]}
            for line in reports["lines"]
        ]
        with self._lock:
            if progress is not None:
                at = datetime.fromisoformat(progress["at"])
                self._progress = {"value": progress["value"], "message": progress["message"], "at": at}
            self._lines.extend(lines)
        self._report()

    def stop(self) -> None:
        """For the worker: make `cancelled` true."""
        self._stopping = True  # one assignment, so a handler in a thread sees it or does not yet

    def take(self) -> tuple[ProgressDocument | None, list[LogDocument]]:
        """For the worker: what was reported since the last call; the progress is None when it did not change."""
        with self._lock:
            progress, self._progress = self._progress, None
            lines = list(self._lines)
            self._lines.clear()
        return progress, lines
