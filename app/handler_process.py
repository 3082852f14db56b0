"""A handler process: imports the task modules and runs handlers for its worker, one after the other.

It ends with its worker, whatever ends that: Linux kills it when the worker dies, and everywhere the end of the
connection ends it.
"""

import ctypes
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from app.core.errors import TaskModuleError, TaskTypeError, UnusableResult
from app.core.outcomes import Fail, Retry
from app.core.task_type import TaskType, TaskTypes
from app.services import frames
from app.services.context import Context
from app.services.execute import failure_of
from app.services.frames import Frame
from app.services.result import keepable
from app.tasks.registry import load_task_modules
from app.telemetry.logging import configure_logging, name_attempt

REPORT_EVERY_S = 0.05
"""What is reported sooner after the last report waits, so that a tight loop does not drown the worker."""

_PR_SET_PDEATHSIG = 1


class _Connection:
    """To the worker; safe to send through from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, frame: Frame) -> None:
        """Send a frame; without a worker there is nothing left to do."""
        data = frames.encode(frame)
        try:
            with self._lock:
                self._connection.sendall(data)
        except OSError:
            os._exit(1)

    def receive(self) -> Frame:
        """The next frame; the end of the connection is the end of the process."""
        try:
            return frames.receive(self._connection)
        except (EOFError, OSError):
            os._exit(0)


class _Reports:
    """Sends what the handler of a context reports: at once, unless the last report was just sent."""

    def __init__(self, connection: _Connection, number: int, context: Context) -> None:
        self._connection = connection
        self._number = number
        self._context = context
        self._sent_at = float("-inf")
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        context.on_report(self._on_report)

    def _on_report(self) -> None:
        with self._lock:
            if self._timer is not None:
                return
            wait_s = self._sent_at + REPORT_EVERY_S - time.monotonic()
            if wait_s > 0:
                self._timer = threading.Timer(wait_s, self._send)
                self._timer.daemon = True
                self._timer.start()
                return
        self._send()

    def _send(self) -> None:
        with self._lock:
            self._timer = None
            self._sent_at = time.monotonic()
        self._connection.send({"number": self._number, "reports": self._context.hand_over()})


class _NoHttp:
    """Stands where the worker's HTTP clients are."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("a handler with process=True has no HTTP session of the worker: it has no event loop")


class _Process:
    """Takes calls in from a thread, so that a stop is heard while a handler runs in the main one."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._calls: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._running: tuple[int, Context] | None = None
        self._types: TaskTypes = {}
        self._max_result_bytes = 0

    def run(self) -> None:
        """Until the worker is gone."""
        threading.Thread(target=self._listen, name="worker", daemon=True).start()
        self._reply(1, self._prepare(self._calls.get()))
        while True:
            call = self._calls.get()
            context = Context(**call["context"], http=_NoHttp())  # type: ignore[arg-type]  # it says why there is none
            self._running = (call["number"], context)
            name_attempt(context.task_id, context.type, context.attempt)
            _Reports(self._connection, call["number"], context)
            reply = self._outcome(call, context)
            self._running = None
            self._connection.send({"number": call["number"], "reports": context.hand_over(), "reply": reply})

    def _listen(self) -> None:
        while True:
            frame = self._connection.receive()
            if "stop" not in frame:
                self._calls.put(frame)
            elif (running := self._running) is not None and running[0] == frame["stop"]:
                running[1].stop()

    def _reply(self, number: int, reply: Frame) -> None:
        self._connection.send({"number": number, "reply": reply})

    def _prepare(self, settings: Frame) -> Frame:
        configure_logging(settings["log_level"], settings["log_format"], modules=settings["modules"])
        try:
            self._types = load_task_modules(settings["modules"])
        except (TaskModuleError, TaskTypeError) as error:
            sys.stderr.write(f"arqive: {error}\n")
            sys.exit(1)
        self._max_result_bytes = settings["max_result_bytes"]
        return {}

    def _type(self, name: str) -> TaskType:
        if name not in self._types:
            raise Fail(f"{name} is not registered by importing TASK_MODULES")
        return self._types[name]

    def _outcome(self, call: Frame, context: Context) -> Frame:
        try:
            task_type = self._type(call["type"])
            payload = task_type.payload.validate_python(call["payload"])
            return {"result": keepable(task_type.handler(context, payload), max_bytes=self._max_result_bytes)}
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - a user's code may raise anything
            return _reply_of(error)


def _reply_of(error: BaseException) -> Frame:
    match error:
        case Fail():
            return {"fail": str(error.reason)}
        case Retry():
            return {"retry": {"delay": error.delay, "reason": str(error.reason)}}
        case UnusableResult():
            return {"unusable": {"code": error.code, "message": str(error)}}
        case Exception():
            failure = failure_of(error)
        case _:
            failure = failure_of(RuntimeError(f"the handler raised {error!r}"))
    return {"message": failure.message, "traceback": failure.traceback}


def _die_with(worker: int) -> None:
    """Have the kernel kill this process when its worker dies, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker:  # it died before
        os._exit(0)


def _leave_signals_to_the_worker() -> None:
    """A signal to the whole group, from a terminal or a service manager, must not end what has a grace to finish."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        # Not SIG_IGN, which the programs that a handler starts would inherit.
        signal.signal(signum, lambda _signum, _frame: None)
        os.register_at_fork(after_in_child=lambda signum=signum: signal.signal(signum, signal.SIG_DFL))


def main(arguments: Sequence[str]) -> None:
    """Serve the worker that started this.

    Args:
        arguments: The file descriptor of the connection, and the worker's process id.
    """
    descriptor, worker = map(int, arguments)
    _die_with(worker)
    _leave_signals_to_the_worker()
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(inheritable=False)
    _Process(_Connection(connection)).run()
