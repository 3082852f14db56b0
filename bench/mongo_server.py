"""The MongoDB-wire servers that a run can start: the embedded one of `arqive dev`, and one that is faster.

The faster one is SecantusDB's daemon in Rust: the same storage engine under another server. Cargo builds it once, into
a directory that Git ignores. It is for measuring alone: docs/performance-notes.md says what it gets wrong.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from app.embedded.process import ChildProcess
from app.embedded.servers import EmbeddedError, LocalServer, free_port, start_mongo
from app.store import mongo

CACHE = Path(__file__).resolve().parents[1] / ".bench"
CRATE = "secantus-mdb"
CRATE_VERSION = "0.5.3-beta.193"

PROGRAM = CACHE / "cargo/bin/secantusd-rs"
BUILD_S = 1800
START_S = 30.0

EMBEDDED, FAST = "embedded", "fast"
KINDS = (EMBEDDED, FAST)


@dataclass(frozen=True, slots=True)
class MongoServer:
    """A server that was started here, and what people call it."""

    name: str
    server: LocalServer


def why_not_fast(tell: Callable[[str], None]) -> str:
    """Build the faster server if it is not there yet; why it cannot be used, or nothing."""
    if PROGRAM.exists():
        return ""
    cargo = shutil.which("cargo")
    if cargo is None:
        return f"{CRATE} is not built and there is no cargo on PATH to build it with"
    tell(f"building {CRATE} {CRATE_VERSION} into {CACHE.name}/, once; some five minutes")
    # The crate asks for a newer Rust than it needs: 1.95 builds it.
    options = ("--quiet", "--locked", "--ignore-rust-version", "--version", CRATE_VERSION, "--root", CACHE / "cargo")
    command = (cargo, "install", CRATE, *options)
    CACHE.mkdir(exist_ok=True)
    log = CACHE / "cargo.log"
    with log.open("wb") as output:
        try:
            built = subprocess.run(
                command,
                env={**os.environ, "CARGO_TARGET_DIR": str(CACHE / "target")},
                stdout=output,
                stderr=output,
                timeout=BUILD_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"building {CRATE} took longer than {BUILD_S} s; see {log}"
    shutil.rmtree(CACHE / "target", ignore_errors=True)  # a gigabyte that nobody needs again
    return "" if built.returncode == 0 else f"cargo could not build {CRATE}; see {log}"


async def start(kind: str, directory: Path) -> MongoServer:
    """Start a server of a kind.

    Raises:
        EmbeddedError: it does not start.
    """
    if kind == EMBEDDED:
        return MongoServer(f"SecantusDB {version('secantusdb')}, the embedded one", await start_mongo(directory))
    name = f"{CRATE} {CRATE_VERSION}, SecantusDB's daemon in Rust, which syncs its journal for each write"
    return MongoServer(name, await _start_fast(directory))


async def _start_fast(directory: Path) -> LocalServer:
    storage, config, log = directory / "mongo-fast", directory / "fast.toml", directory / "mongo-fast.log"
    config.touch()  # an empty one of our own: without it the server takes a stranger's from the home directory
    port = free_port()
    process = ChildProcess(
        "mongo-fast",
        [
            str(PROGRAM),
            *("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--storage-path", str(storage)),
            # Without the last one it acknowledges before its journal is written, and a kill loses what it acknowledged.
            *("--standalone", "--cache-size", "1G", "--sync-on-commit"),
        ],
        log=log,
    )
    url = f"mongodb://127.0.0.1:{port}"
    server = LocalServer(url, port, process, log)
    end = time.monotonic() + START_S
    while not await mongo.ping(url, 1.0):
        if process.exit_code is not None or time.monotonic() > end:
            how = process.how_it_ended()
            await process.stop(0)
            raise EmbeddedError(f"{PROGRAM.name} does not answer: it {how}; see {log}")
    return server


if __name__ == "__main__":
    sys.exit(why_not_fast(lambda line: print(line, file=sys.stderr)) or 0)
