"""What Redis counts of its own work."""

from dataclasses import dataclass

from redis.asyncio import Redis

_IN_SCRIPTS = frozenset({"set", "get", "del", "exists", "time", "zadd", "zrem", "zscore", "zrangebyscore", "pexpire"})
"""What Arqive's scripts call. Its workers send none of them by themselves while they drain a queue or rest, but for one
GET of the reconciler every few seconds."""

_LOOKS = "zcard"
"""What the benchmark asks while it measures, and no worker does."""

_OWN_INFOS = 2
"""INFO calls of the benchmark between two counts: the second of the first count and the first of the second."""


@dataclass(frozen=True, slots=True)
class Work:
    """Between two counts, without what the benchmark itself sent.

    Attributes:
        commands: Calls, those made inside scripts counted one by one.
        in_scripts: Calls of the commands that Arqive's scripts make.
        by_command: Calls by command.
        cpu_s: CPU seconds of the server's process.
        script_ms: Milliseconds of Redis that a script took, on average; 0 without one.
    """

    commands: int
    in_scripts: int
    by_command: dict[str, int]
    cpu_s: float
    script_ms: float


@dataclass(frozen=True, slots=True)
class Count:
    """Totals since the server started."""

    calls: dict[str, int]
    script_us: int
    cpu_s: float

    def since(self, before: "Count") -> Work:
        """What happened since an earlier count."""
        calls = {name: number - before.calls.get(name, 0) for name, number in self.calls.items() if name != _LOOKS}
        calls["info"] -= _OWN_INFOS
        scripts = calls.get("evalsha", 0)
        return Work(
            commands=sum(calls.values()),
            in_scripts=sum(number for name, number in calls.items() if name in _IN_SCRIPTS),
            by_command={name: number for name, number in calls.items() if number},
            cpu_s=self.cpu_s - before.cpu_s,
            script_ms=(self.script_us - before.script_us) / scripts / 1000 if scripts else 0.0,
        )


async def count(redis: Redis) -> Count:
    """Read the counters, in two calls."""
    cpu = await redis.info("cpu")
    stats = await redis.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): int(of["calls"]) for name, of in stats.items()}
    script_us = int(stats.get("cmdstat_evalsha", {"usec": 0})["usec"])
    # Its own call is not in it yet.
    calls.setdefault("info", 0)
    return Count(calls, script_us, float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]))
