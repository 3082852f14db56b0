"""A child process: started apart from the terminal, waited for, stopped within a bound."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_WRAPPER = Path(__file__).with_name("child.py")
_POLL_S = 0.02


class ChildProcess:
    """A program that runs in a session of its own, so that Ctrl-C at the terminal reaches only its parent.

    On Linux it dies with this process, and with the thread that started it: start it from the main thread.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start the program.

        Args:
            name: What people are told it is.
            command: The program and its arguments.
            env: Its whole environment; None is this process's own.
            log: Where its output goes, replacing what is there; None shares this process's own output.
            death_signal: What it gets when this process dies.
            pass_fds: Descriptors that it keeps open.

        Raises:
            OSError: the log cannot be written.
        """
        self.name = name
        wrapper = (sys.executable, "-I", "-S", str(_WRAPPER), str(os.getpid()), str(int(death_signal)))
        with contextlib.ExitStack() as stack:
            output = None if log is None else stack.enter_context(log.open("wb"))
            self._popen = subprocess.Popen(  # noqa: S603 - the caller's own arguments, no shell
                (*wrapper, *command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id, and that of its session and group."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -N when signal N ended it."""
        return self._popen.poll()

    def how_it_ended(self) -> str:
        """The exit in words."""
        code = self.exit_code
        if code is None:
            return "still runs"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"exited with code {code}"

    async def wait(self, timeout_s: float | None = None) -> int:
        """The exit code, once it has ended.

        Raises:
            TimeoutError: it still runs after `timeout_s` seconds.
        """
        async with asyncio.timeout(timeout_s):
            while (code := self.exit_code) is None:  # noqa: ASYNC110 - polled, it works whichever loop started it
                await asyncio.sleep(_POLL_S)
        return code

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.exit_code is None:
            self._popen.terminate()

    def kill(self) -> None:
        """End it, and whatever it left running in its session, at once."""
        # macOS answers EPERM for a group of which only unreaped processes are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, grace_s: float) -> int:
        """Ask it to stop, kill it after `grace_s` seconds, and return its exit code; nothing of it is left then."""
        self.terminate()
        with contextlib.suppress(TimeoutError):
            await self.wait(grace_s)
        self.kill()
        return await self.wait()
