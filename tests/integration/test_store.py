"""What MongoDB is asked, and that an index carries it."""

from datetime import timedelta
from typing import Any

import pytest

from app.core.clock import utc_now
from app.core.states import Status
from app.models import Submission
from app.services.backend import Backend
from app.services.observe import collect_stats
from app.services.submit import submit
from app.store.duties import DutyStore
from app.store.indexes import INDEXES, create_indexes
from app.store.tasks import TaskFilter


def _stages(plan: dict[str, Any]) -> list[str]:
    stages = [plan["stage"]] if "stage" in plan else []
    for key in ("inputStage", "queryPlan"):
        if key in plan:
            stages += _stages(plan[key])
    for child in plan.get("inputStages", []):
        stages += _stages(child)
    return stages


@pytest.mark.parametrize(
    "which",
    [
        TaskFilter(statuses=(Status.PENDING,)),
        TaskFilter(statuses=(Status.PENDING, Status.FAILED)),
        TaskFilter(type="echo"),
        TaskFilter(queue="default"),
        TaskFilter(tags=("a",)),
        TaskFilter(schedule="a"),
        TaskFilter(),
        TaskFilter(created_after=utc_now() - timedelta(days=1)),
        TaskFilter(created_before=utc_now() + timedelta(days=1)),
    ],
    ids=lambda which: ",".join(which.to_query()) or "all",
)
async def test_every_list_query_uses_an_index(backend: Backend, which: TaskFilter) -> None:
    """Each filter alone; which index serves several at once is for MongoDB's planner, which knows the data."""
    await submit(backend, [Submission(type="echo", tags=("a", "b")) for _ in range(20)])
    plan = (await backend.tasks._newest(which.to_query()).explain())["queryPlanner"]["winningPlan"]
    assert "IXSCAN" in _stages(plan), plan
    assert "COLLSCAN" not in _stages(plan), plan


async def test_indexes_can_be_created_again(backend: Backend) -> None:
    await create_indexes(backend.mongo)
    names = set(await backend.mongo.collection("tasks").index_information())
    assert names == {"_id_"} | {index.name for index in INDEXES if index.collection == "tasks"}


async def test_stats_count_what_there_is(backend: Backend) -> None:
    await submit(backend, [Submission(type="echo", queue="a") for _ in range(3)])
    await submit(backend, [Submission(type="echo", queue="a", delay=60), Submission(type="echo", queue="b", delay=60)])
    stats = await collect_stats(backend)
    assert stats.tasks[Status.PENDING] == 5
    assert stats.tasks[Status.COMPLETED] == 0
    assert {name: (queue.ready, queue.deferred, queue.running) for name, queue in stats.queues.items()} == {
        "a": (3, 1, 0),
        "b": (0, 1, 0),
    }
    assert 0 <= stats.queues["a"].oldest_ready_seconds < 300
    assert stats.queues["b"].oldest_ready_seconds == 0
    assert stats.workers == 0


async def test_a_duty_is_one_processes(backend: Backend) -> None:
    duties, now = DutyStore(backend.mongo), utc_now()
    soon = now + timedelta(seconds=10)
    assert await duties.take("sweep", "one", now=now, until=soon)
    assert not await duties.take("sweep", "two", now=now, until=soon)
    assert await duties.take("sweep", "one", now=now, until=soon), "its holder keeps it"
    assert await duties.take("sweep", "two", now=soon, until=soon + timedelta(seconds=10)), "it lapses"
    assert not await duties.take("sweep", "one", now=soon, until=soon)
    await duties.give_up("sweep", "one")
    assert not await duties.take("sweep", "one", now=soon, until=soon), "only the holder gives it up"
    await duties.give_up("sweep", "two")
    assert await duties.take("sweep", "one", now=soon, until=soon)
