"""`dev`: web and worker in one command, against local servers where the URLs name none that answers."""

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from app.embedded.data_lock import DataLock, lock_directory
from app.embedded.probe import ask_readiness, base_url, local_address
from app.embedded.process import ChildProcess
from app.embedded.servers import EmbeddedError, LocalServer, free_port, start_mongo, start_redis
from app.queue import connect
from app.store import mongo
from settings import Settings

DATA_DIRECTORY = Path(".arqive")

_READY_S = 60.0
_POLL_S = 0.1
_BEYOND_GRACE_S = 5.0  # what web and worker need after the grace, to release and to say goodbye
_SERVER_STOP_S = 10.0
_PING_NAMED_S = 3.0  # a server that the environment names may be far away
_PING_DEFAULT_S = 1.0

Say = Callable[[str], None]


def run(settings: Settings, say: Say, directory: Path = DATA_DIRECTORY) -> int:
    """Run web and worker until Ctrl-C or SIGTERM; return the exit code.

    Args:
        settings: Settles where web listens and how long running tasks get to finish.
        say: Prints a line for the person at the terminal.
        directory: Where local servers keep their data.

    Raises:
        EmbeddedError: the port is busy, a server cannot be started, or another `dev` uses the directory.
    """
    return asyncio.run(_Dev(settings, say, directory.absolute()).run())


class _Dev:
    """The processes of one `dev`."""

    def __init__(self, settings: Settings, say: Say, directory: Path) -> None:
        self._settings = settings
        self._say = say
        self._directory = directory
        self._lock: DataLock | None = None
        self._servers: list[LocalServer] = []
        self._programs: list[ChildProcess] = []

    async def run(self) -> int:
        """Start all, wait for the end, stop all."""
        asked = self._watch_signals()
        work = asyncio.create_task(self._work())
        waiting = asyncio.create_task(asked.wait())
        try:
            await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            self._say(f"Stopping: running tasks get up to {self._settings.shutdown_grace_seconds:g} s to finish.")
            return 0
        finally:
            work.cancel()
            waiting.cancel()
            await asyncio.wait((work, waiting))
            await self._stop_all()

    def _watch_signals(self) -> asyncio.Event:
        """The first signal sets the event; the second kills every child at once."""
        asked = asyncio.Event()

        def on_signal() -> None:
            if asked.is_set():
                for child in self._children():
                    child.kill()
            asked.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup stays nohup
                loop.add_signal_handler(number, on_signal)
        return asked

    def _children(self) -> list[ChildProcess]:
        return [*self._programs, *(server.process for server in self._servers)]

    async def _work(self) -> int:
        """Start everything, then watch it; returns only when something has ended by itself."""
        host, port = environment_host(self._settings), self._settings.port or free_port()
        _refuse_busy_port("PORT", host, port)
        if "health_port" in self._settings.model_fields_set and self._settings.health_port:
            _refuse_busy_port("HEALTH_PORT", host, self._settings.health_port)
        mongo_url, redis_url = await self._find_servers()
        env = program_environment(self._settings, os.environ, mongo_url=mongo_url, redis_url=redis_url, port=port)
        for name in ("web", "worker"):
            command = (sys.executable, "-m", "app", name)
            self._programs.append(ChildProcess(name, command, env=env, death_signal=signal.SIGKILL))
        ended = await self._until_ready(local_address(host), port)
        if ended is None:
            self._greet(base_url(local_address(host), port))
            ended = await self._until_one_ends()
        self._say(f"{ended.name} {ended.how_it_ended()}; stopping everything.")
        return 1

    async def _find_servers(self) -> tuple[str, str]:
        """The URLs of a MongoDB and a Redis that answer; local ones are started where the settings name none."""
        settings, named = self._settings, self._settings.model_fields_set
        mongo_url, redis_url = settings.mongo_url.get_secret_value(), settings.redis_url.get_secret_value()
        has_mongo, has_redis = await asyncio.gather(
            mongo.ping(mongo_url, _PING_NAMED_S if "mongo_url" in named else _PING_DEFAULT_S),
            connect.ping(redis_url, _PING_NAMED_S if "redis_url" in named else _PING_DEFAULT_S),
        )
        for field, answers in (("mongo_url", has_mongo), ("redis_url", has_redis)):
            if field in named and not answers:
                self._say(f"{field.upper()} names a server that does not answer; starting a local one instead.")
        if not has_mongo or not has_redis:
            self._lock = await lock_directory(self._directory)
        if not has_mongo:
            mongo_url = await self._add(start_mongo(self._directory, pass_fds=self._held()))
        if not has_redis:
            redis_url = await self._add(start_redis(self._directory, persistent=True, pass_fds=self._held()))
        return mongo_url, redis_url

    def _held(self) -> tuple[int, ...]:
        return () if self._lock is None else (self._lock.fd,)

    async def _add(self, starting: Awaitable[LocalServer]) -> str:
        server = await starting
        self._servers.append(server)
        return server.url

    async def _until_ready(self, address: str, port: int) -> ChildProcess | None:
        """None once web is ready; else the child that has ended before.

        Raises:
            EmbeddedError: it takes too long.
        """
        detail = ""
        try:
            async with asyncio.timeout(_READY_S):
                while (ended := self._ended()) is None:
                    answer = await asyncio.to_thread(ask_readiness, address, port)
                    if answer.ready:
                        break
                    detail = answer.detail
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise EmbeddedError(f"web is not ready after {_READY_S:g} s: {detail}") from error
        return ended

    def _ended(self) -> ChildProcess | None:
        return next((child for child in self._children() if child.exit_code is not None), None)

    async def _until_one_ends(self) -> ChildProcess:
        while (ended := self._ended()) is None:  # noqa: ASYNC110 - the end of a process sets no event
            await asyncio.sleep(_POLL_S)
        return ended

    def _greet(self, url: str) -> None:
        task = '{"type": "echo", "payload": {"hello": "world"}}'
        self._say(f"\nArqive listens on {url}")
        self._say(f"  submit a task   curl {url}/tasks -H 'Content-Type: application/json' -d '{task}'")
        self._say(f"  read the tasks  curl {url}/tasks")
        if self._servers:
            urls = " and ".join(server.url for server in self._servers)
            self._say(f"  data            {self._directory} ({urls})")
        else:
            self._say("  data            in the servers that MONGO_URL and REDIS_URL name")
        self._say("Ctrl-C stops.\n")

    async def _stop_all(self) -> None:
        grace_s = self._settings.shutdown_grace_seconds + _BEYOND_GRACE_S
        await asyncio.gather(*(program.stop(grace_s) for program in self._programs))
        await asyncio.gather(*(server.stop(_SERVER_STOP_S) for server in self._servers))
        if self._lock is not None:
            self._lock.release()


def environment_host(settings: Settings) -> str:
    """HOST where it is set, else loopback: what runs here has no password."""
    return settings.host if "host" in settings.model_fields_set else "127.0.0.1"


def program_environment(
    settings: Settings, environ: Mapping[str, str], *, mongo_url: str, redis_url: str, port: int
) -> dict[str, str]:
    """The environment of web and worker: `environ`, the servers found, and what suits a developer's machine.

    Args:
        settings: What it sets wins over what suits.
        environ: What else the programs get.
        mongo_url: A MongoDB that answers.
        redis_url: A Redis that answers.
        port: Where web listens.
    """
    defaults = {"host": environment_host(settings), "log_format": "console", "http_allow_private": "true"}
    defaults["health_port"] = "0"  # probes are for orchestrators, and a second project's worker may have the port
    unset = {name.upper(): value for name, value in defaults.items() if name not in settings.model_fields_set}
    return {**environ, **unset, "MONGO_URL": mongo_url, "REDIS_URL": redis_url, "PORT": str(port)}


def _refuse_busy_port(variable: str, host: str, port: int) -> None:
    """Notice before anything is started that web could not listen.

    Raises:
        EmbeddedError: it could not.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except socket.gaierror as error:
        raise EmbeddedError(f"HOST: {host!r} is not an address: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise EmbeddedError(f"HOST: {host} is not an address of this machine") from error
        if error.errno == errno.EADDRINUSE:
            raise EmbeddedError(
                f"{variable}: port {port} is in use on {host}; set {variable} to another one"
            ) from error
        raise EmbeddedError(f"{variable}: cannot listen on {host} port {port}: {error.strerror}") from error
