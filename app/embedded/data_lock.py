"""One `dev` at a time in a data directory."""

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

from app.embedded.servers import EmbeddedError

_LEFTOVER_S = 15.0
_POLL_S = 0.05


class DataLock:
    """The exclusive right to a data directory.

    Servers that inherit `fd` hold the lock too, so that one which outlives its `dev` by a moment (a kill -9 leaves it
    to write what it holds) does not meet its successor in the same files.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @property
    def fd(self) -> int:
        """The descriptor that holds the lock."""
        return self._file.fileno()

    def release(self) -> None:
        """Let go; the lock is free once every process that inherited it has ended."""
        self._file.close()


async def lock_directory(directory: Path) -> DataLock:
    """Make the directory when it is missing, and lock it.

    Raises:
        EmbeddedError: another `dev` uses it, or it cannot be written.
    """
    file = _open_lock_file(directory)
    with contextlib.ExitStack() as undo:
        undo.enter_context(file)
        try:
            async with asyncio.timeout(_LEFTOVER_S):
                await _wait_for(file, directory)
        except TimeoutError as error:
            raise EmbeddedError(f"the servers of an earlier `dev` still run in {directory}: end them first") from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        undo.pop_all()
    return DataLock(file)


def _open_lock_file(directory: Path) -> IO[str]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".gitignore").write_text("*\n")
        return (directory / "lock").open("a+")
    except OSError as error:
        raise EmbeddedError(f"cannot keep data in {directory}: {error.strerror}") from error


async def _wait_for(file: IO[str], directory: Path) -> None:
    while not _try_lock(file):
        if _is_alive(holder := _read_pid(file)):
            raise EmbeddedError(
                f"{directory} is in use by another `dev`, process {holder}: "
                "stop that one, or start in another directory"
            )
        await asyncio.sleep(_POLL_S)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(file: IO[str]) -> int | None:
    file.seek(0)
    text = file.read().strip()
    return int(text) if text.isdecimal() else None


def _is_alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
