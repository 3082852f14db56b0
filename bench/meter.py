"""What a stretch of work cost: CPU by process, commands of Redis, requests of MongoDB."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient
from redis.asyncio import Redis

from bench.counters import Count, count
from bench.processes import cpu_seconds

_OPERATIONS = ("insert", "query", "update", "delete", "getmore")
_OWN_REQUESTS = 1
"""Of the meter itself between two readings."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Between two readings.

    Attributes:
        cpu_s: CPU seconds by role; a server that is not on this machine is missing.
        redis_commands: Calls, those inside scripts counted one by one.
        mongo_requests: Messages that MongoDB was sent.
        mongo_operations: Inserts, updates, deletes and finds, in whatever way its `serverStatus` counts them.
    """

    cpu_s: Mapping[str, float]
    redis_commands: int
    mongo_requests: int
    mongo_operations: int


@dataclass(frozen=True, slots=True)
class Reading:
    """Totals at one moment."""

    cpu_s: Mapping[str, float]
    redis: Count
    mongo_requests: int
    mongo_operations: int

    def since(self, before: "Reading") -> Cost:
        """What happened since an earlier reading of the same meter."""
        return Cost(
            cpu_s={role: seconds - before.cpu_s[role] for role, seconds in self.cpu_s.items()},
            redis_commands=self.redis.since(before.redis).commands,
            mongo_requests=self.mongo_requests - before.mongo_requests - _OWN_REQUESTS,
            mongo_operations=self.mongo_operations - before.mongo_operations,
        )


class Meter:
    """Reads the counters of the servers and of the programs under test.

    Args:
        redis: Nobody else may use it.
        mongo: The same.
        server_pids: Process ids of the servers that are on this machine.
    """

    def __init__(self, redis: Redis, mongo: MongoClient[dict[str, Any]], server_pids: Mapping[str, int]) -> None:
        self._redis = redis
        self._mongo = mongo
        self.server_pids = server_pids

    async def read(self, roles: Mapping[str, Sequence[int]]) -> Reading:
        """Read all.

        Args:
            roles: Process ids by role, the servers' apart.
        """
        pids = {**roles, **{role: [pid] for role, pid in self.server_pids.items()}}
        status = self._mongo.admin.command("serverStatus")
        return Reading(
            cpu_s={role: cpu_seconds(of_role) for role, of_role in pids.items()},
            redis=await count(self._redis),
            mongo_requests=int(status.get("network", {}).get("numRequests", 0)),
            mongo_operations=sum(int(status.get("opcounters", {}).get(name, 0)) for name in _OPERATIONS),
        )
