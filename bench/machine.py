"""What the figures were measured on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
from pymongo import MongoClient
from redis.asyncio import Redis

from bench.servers import Servers

PACKAGES = ("arq", "redis", "hiredis", "uvloop", "motor", "aiohttp")


async def describe(servers: Servers) -> list[tuple[str, str]]:
    """Names and values, for people."""
    async with Redis.from_url(servers.redis_url) as redis:
        redis_version = str((await redis.info("server"))["redis_version"])
    with MongoClient[dict[str, object]](servers.mongo_url) as client:
        mongo_version = str(client.server_info()["version"])
    return [
        ("processor", f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("Redis", redis_version),
        ("MongoDB", f"{servers.mongo_name}; it reports {mongo_version}"),
        ("packages", ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
        ("measured", f"{datetime.now(UTC):%Y-%m-%d}, load {os.getloadavg()[0]:.1f} when it began"),
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else "unknown processor"
