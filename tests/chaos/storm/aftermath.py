"""Looks at what the storm left: waits until all has ended, judges every task, and shows those that are broken."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pprint import pformat
from typing import Any

import pymongo
import redis

from app.core.states import UNFINISHED
from app.queue import keys
from tests.chaos.storm.client import Account
from tests.chaos.storm.fleet import Fleet
from tests.chaos.storm.plan import Planned
from tests.chaos.storm.verdict import Run, judge, read_runs

LOOK_S = 0.5
TIDY_S = 30.0
"""Once all has ended, how long until Redis has forgotten it."""

SHOWN = 5
"""Broken tasks that are shown in full."""

LOG_LINES = 40


class Aftermath:
    """The servers after the storm, read past Arqive.

    Attributes:
        broken: By task id, or a word for what is no task: what is wrong.
        counts: What there was, for the report.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.broken: dict[str, list[str]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self._fleet = fleet
        self._documents: dict[str, dict[str, Any]] = {}
        self._runs: dict[str, list[Run]] = {}
        self._mongo = pymongo.MongoClient[dict[str, Any]](fleet.settings.mongo_url.get_secret_value(), tz_aware=True)
        self._tasks = self._mongo[fleet.settings.mongo_database].tasks
        self._redis = redis.Redis.from_url(fleet.settings.redis_url.get_secret_value())

    async def settle(self, patience_s: float) -> None:
        """Wait until every task has ended and Redis has forgotten them; what does not is found broken."""
        await asyncio.to_thread(_wait, self._none_unfinished, patience_s)
        await asyncio.to_thread(_wait, lambda: not self._left_in_redis(), TIDY_S)
        for key in self._left_in_redis():
            self.broken[key.rpartition(":")[2]].append(f"{key} is left in Redis")

    def _none_unfinished(self) -> bool:
        return self._tasks.count_documents({"status": {"$in": sorted(UNFINISHED)}}) == 0

    def _left_in_redis(self) -> list[str]:
        return sorted(key.decode() for key in self._redis.scan_iter(count=1000) if key.decode() != keys.EPOCH)

    def judge(self, accounts: dict[str, Account], plan: dict[int, Planned]) -> None:
        """Compare every record with what was promised and with what ran."""
        self._documents = {str(document["_id"]): document for document in self._tasks.find()}
        self._runs = read_runs(self._fleet.runs)
        for task_id in accounts.keys() - self._documents.keys():
            self.broken[task_id].append("it was accepted, and there is none")
        for task_id in self._runs.keys() - self._documents.keys():
            self.broken[task_id].append("it ran, and there is none")
        for task_id, document in self._documents.items():
            # A request that got no answer may have been accepted: its client knows nothing of the tasks.
            account = accounts.get(task_id) or Account(plan[document["payload"]["number"]])
            wrong = list(judge(document, account, self._runs.get(task_id, [])))
            if wrong:
                self.broken[task_id] += wrong
            self._count(document, known=task_id in accounts)

    def _count(self, document: dict[str, Any], *, known: bool) -> None:
        self.counts["tasks"] += 1
        self.counts["accepted without an answer"] += not known
        self.counts[document["status"]] += 1
        self.counts["set aside as lost"] += (document["error"] or {}).get("code") == "lost"
        self.counts["expired"] += (document["error"] or {}).get("code") == "expired"
        self.counts["rounds"] += document["round"]
        for entry in document["history"]:
            self.counts["attempts"] += 1
            self.counts[f"attempts {entry['outcome']}"] += 1

    def show_broken(self) -> str:
        """What is wrong with the first of them, and all that is known of these."""
        lines = []
        for task_id, wrong in list(self.broken.items())[:SHOWN]:
            lines += ["", f"=== {task_id}", *wrong]
            lines.append(pformat(self._documents.get(task_id, "no document"), width=160, sort_dicts=False))
            lines += [str(run) for run in self._runs.get(task_id, ())]
            lines += self._logged(task_id)[:LOG_LINES]
        return "\n".join(lines)

    def _logged(self, task_id: str) -> list[str]:
        return [
            f"{log.name}: {line}"
            for log in sorted(self._fleet.logs.iterdir())
            for line in log.read_text(errors="replace").splitlines()
            if task_id in line
        ]

    def close(self) -> None:
        """End the connections."""
        self._mongo.close()
        self._redis.close()


def _wait(happened: Callable[[], bool], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not happened() and time.monotonic() < deadline:
        time.sleep(LOOK_S)
