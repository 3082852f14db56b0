"""The loop that submits slots: each once, whoever is killed, hindered or overtaken, and none of what is gone."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.core.clock import utc_now
from app.core.errors import StoreUnavailable
from app.core.faults import FaultPoint, arm, disarm_all
from app.core.ids import ScheduleName, TaskId
from app.core.states import Status
from app.core.task_type import TaskTypes
from app.models import Task
from app.queue import keys
from app.schedule_models import Schedule, ScheduleSpec
from app.services import submit, submit_slots
from app.services.backend import Backend
from app.services.keep_schedules import delete_schedule, get_schedule, pause_schedule, put_schedule, resume_schedule
from app.services.read import list_tasks
from app.services.submit_slots import Scheduler
from app.store.schedules import ScheduleStore
from app.store.tasks import TaskFilter
from tests.integration.conftest import RunWorker, ended
from tests.waiting import wait_until

HOURLY = ScheduleName("hourly")
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _disarmed() -> Any:
    yield
    disarm_all()


def scheduler_of(backend: Backend, holder: str = "one", types: TaskTypes | None = None) -> Scheduler:
    return Scheduler(backend.mongo, backend.acceptor, types or backend.types, holder=holder)


async def put(backend: Backend, name: str = HOURLY, **fields: Any) -> Schedule:
    spec = {"task": {"type": "echo", "payload": {"from": name}}, "interval": 3600, **fields}
    schedule, _ = await put_schedule(backend, ScheduleName(name), ScheduleSpec.model_validate(spec))
    return schedule


async def make_due(backend: Backend, ago: timedelta = timedelta(0), name: str = HOURLY) -> datetime:
    """Move the beat of a schedule so that a slot was some time ago."""
    slot = utc_now() - ago
    await backend.mongo.collection("schedules").update_one(
        {"_id": name}, {"$set": {"anchor_at": slot, "next_run_at": slot, "due_at": slot}, "$inc": {"revision": 1}}
    )
    return slot


async def tasks_of(backend: Backend, name: str = HOURLY) -> list[Task]:
    page = await list_tasks(backend, TaskFilter(schedule=name), limit=500, after=None)
    return page.tasks


async def stored(backend: Backend, name: str = HOURLY) -> Mapping[str, Any]:
    document = await backend.schedules.get(ScheduleName(name))
    assert document is not None
    return document


async def test_a_slot_becomes_a_task_that_says_where_it_comes_from(backend: Backend) -> None:
    await put(backend, task={"type": "echo", "payload": {"n": 1}, "queue": "mail", "priority": 3, "tags": ["x"]})
    slot = await make_due(backend)
    pause_s = await scheduler_of(backend).run_once()
    [task] = await tasks_of(backend)
    assert (task.type, task.payload, task.queue, task.priority, task.tags) == ("echo", {"n": 1}, "mail", 3, ["x"])
    assert (task.status, task.max_attempts) == (Status.PENDING, 1)
    assert task.schedule is not None
    assert (task.schedule.name, task.schedule.slot_at) == (HOURLY, slot)
    assert timedelta(0) <= task.created_at - slot < 60 * SECOND
    assert await backend.queue.redis.zrange(keys.queue("mail"), 0, -1) == [task.id.encode()]
    schedule = await get_schedule(backend, HOURLY)
    assert (schedule.last_run_at, schedule.last_task_id, schedule.last_error) == (slot, task.id, None)
    assert schedule.next_run_at == slot + timedelta(hours=1)
    assert (await stored(backend))["due_at"] == schedule.next_run_at
    assert pause_s == 1


async def test_nothing_is_done_before_its_time(backend: Backend) -> None:
    await put(backend)
    scheduler = scheduler_of(backend)
    await make_due(backend, -60 * SECOND)
    await scheduler.run_once()
    assert await tasks_of(backend) == []
    slot = await make_due(backend, -0.4 * SECOND)
    pause_s = await scheduler.run_once()
    assert await tasks_of(backend) or 0 < pause_s <= 0.4, "its time has come, or it will not be slept through"
    running = asyncio.create_task(scheduler.run())
    await wait_until(lambda: tasks_of(backend), what="its time has come")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    [task] = await tasks_of(backend)
    assert task.created_at >= slot


async def test_every_slot_that_is_on_time_and_one_of_those_that_were_missed(backend: Backend) -> None:
    scheduler = scheduler_of(backend)
    await put(backend, interval=10)
    slot = await make_due(backend, 35 * SECOND)
    await scheduler.run_once()
    slots = [task.schedule.slot_at for task in await tasks_of(backend) if task.schedule]
    assert sorted(filter(None, slots)) == [slot + n * 10 * SECOND for n in range(4)]
    for catch_up, caught_up in (("one", [timedelta(hours=2)]), ("skip", [])):
        await put(backend, catch_up, interval=3600, catch_up=catch_up)
        slot = await make_due(backend, timedelta(hours=2, minutes=30), catch_up)
        await scheduler.run_once()
        tasks = await tasks_of(backend, catch_up)
        assert [task.schedule and task.schedule.slot_at for task in tasks] == [slot + after for after in caught_up]
        assert (await get_schedule(backend, ScheduleName(catch_up))).next_run_at == slot + timedelta(hours=3)


async def test_the_last_slot_is_the_end(backend: Backend) -> None:
    await put(backend, end_at=(utc_now() + timedelta(minutes=5)).isoformat())
    slot = await make_due(backend)
    await scheduler_of(backend).run_once()
    schedule = await get_schedule(backend, HOURLY)
    assert (schedule.next_run_at, schedule.last_run_at) == (None, slot)
    assert (await stored(backend))["due_at"] is None


async def test_who_tries_at_the_same_time_submits_it_once(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each believes to have the duty, as after a clock was put forward."""
    for number in range(20):
        await put(backend, f"s{number}")
        await make_due(backend, name=f"s{number}")
    schedulers = [scheduler_of(backend, f"p{number}") for number in range(4)]
    monkeypatch.setattr(Scheduler, "_has_duty", _always)
    await asyncio.gather(*(scheduler.run_once() for scheduler in schedulers))
    assert await backend.mongo.collection("tasks").count_documents({}) == 20
    assert await backend.mongo.collection("schedules").count_documents({"taken": None}) == 20


async def _always(_scheduler: Scheduler) -> bool:
    return True


async def _gone(backend: Backend) -> None:
    await delete_schedule(backend, HOURLY)


async def _rests(backend: Backend) -> None:
    await pause_schedule(backend, HOURLY)


async def _moved(backend: Backend) -> None:
    await put(backend, interval=1800)


async def _put_anew(backend: Backend) -> None:
    await delete_schedule(backend, HOURLY)
    await put(backend)


@pytest.mark.parametrize("change", [_gone, _rests, _moved, _put_anew])
async def test_what_was_changed_since_it_was_read_is_not_submitted(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, change: Callable[[Backend], Any]
) -> None:
    await put(backend)
    await make_due(backend)
    due = ScheduleStore.due

    async def read_then_changed(self: ScheduleStore, **which: Any) -> Any:
        monkeypatch.setattr(ScheduleStore, "due", due)
        documents = await due(self, **which)
        await change(backend)
        return documents

    monkeypatch.setattr(ScheduleStore, "due", read_then_changed)
    await scheduler_of(backend).run_once()
    assert await backend.mongo.collection("tasks").count_documents({}) == 0
    if change is not _gone:
        assert (await get_schedule(backend, HOURLY)).last_run_at is None


async def test_what_is_deleted_before_its_task_is_kept_is_not_submitted(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion came between the write that takes the slot and the look at what was won."""
    await put(backend)
    await make_due(backend)
    schedules = backend.mongo.collection("schedules")
    scheduler = scheduler_of(backend)
    collection = scheduler._schedules._schedules
    bulk_write = collection.bulk_write

    class Deleting:
        def __getattr__(self, name: str) -> Any:
            return getattr(collection, name)

        async def bulk_write(self, *arguments: Any, **options: Any) -> None:
            await bulk_write(*arguments, **options)
            await schedules.delete_one({"_id": HOURLY})

    monkeypatch.setattr(scheduler._schedules, "_schedules", Deleting())
    await scheduler.run_once()
    assert await backend.mongo.collection("tasks").count_documents({}) == 0


class Struck(BaseException):
    """As if the process had died."""


@pytest.mark.parametrize("point", [FaultPoint.AFTER_TAKE, FaultPoint.AFTER_SLOTS])
@pytest.mark.parametrize("then", [None, _rests, _moved])
async def test_slots_of_who_died_are_taken_over(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, point: FaultPoint, then: Callable[[Backend], Any] | None
) -> None:
    """Also when the schedule was changed since: its slot had come before."""
    monkeypatch.setattr(submit_slots, "TAKE_OVER", 0.2 * SECOND)
    await put(backend)
    slot = await make_due(backend)

    async def strike() -> None:
        raise Struck

    arm(point, strike)
    victim = scheduler_of(backend, "victim")
    with pytest.raises(Struck):
        await victim.run_once()
    disarm_all()
    await victim.give_up()
    before = {task.id for task in await tasks_of(backend)}
    assert len(before) == (1 if point is FaultPoint.AFTER_SLOTS else 0)
    if then is not None:
        await then(backend)
    other = scheduler_of(backend, "other")

    async def taken_over() -> bool:
        await other.run_once()
        return (await stored(backend))["taken"] is None

    await wait_until(taken_over)
    [task] = await tasks_of(backend)
    assert before <= {task.id}
    assert task.schedule is not None
    assert task.schedule.slot_at == slot
    schedule = await get_schedule(backend, HOURLY)
    assert (schedule.last_run_at, schedule.last_task_id) == (slot, task.id)
    assert (await stored(backend))["due_at"] == (None if then is _rests else schedule.next_run_at)
    if then is not _rests:
        assert schedule.next_run_at is not None
        assert schedule.next_run_at > utc_now()


async def test_slots_of_fractions_of_seconds_are_each_there_once(backend: Backend) -> None:
    scheduler = scheduler_of(backend)
    await put(backend, interval=1.0005, catch_up="skip")
    first = await make_due(backend, 3.5 * SECOND)
    for _ in range(3):
        await scheduler.run_once()
    found = [task.schedule.slot_at for task in await tasks_of(backend) if task.schedule]
    slots = sorted(slot - first for slot in found if slot)
    interval = (await get_schedule(backend, HOURLY)).interval
    assert slots == [n * timedelta(seconds=interval or 0) for n in range(len(slots))]
    assert len(slots) >= 4


async def test_who_was_held_up_leaves_its_slots_to_others(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_slots, "PATIENCE_S", -1.0)
    await put(backend)
    await make_due(backend)
    await scheduler_of(backend).run_once()
    assert await tasks_of(backend) == []
    assert (await stored(backend))["taken"] is not None


async def test_one_process_looks_after_the_schedules_of_its_types(backend: Backend) -> None:
    one, two = scheduler_of(backend, "one"), scheduler_of(backend, "two")
    await one.run_once()
    await put(backend)
    await make_due(backend)
    assert await two.run_once() == submit_slots.RENEW_S
    assert await tasks_of(backend) == []
    await one.give_up()
    await two.run_once()
    assert len(await tasks_of(backend)) == 1


async def test_a_type_that_is_not_known_here_is_left_to_who_knows_it(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(backend, task={"type": "test.numbers", "payload": {"low": 1}})
    await put(backend, "known")
    await make_due(backend, 20 * SECOND)
    await make_due(backend, name="known")
    older = {"echo": backend.types["echo"]}
    await scheduler_of(backend, "older", older).run_once()
    assert len(await tasks_of(backend, "known")) == 1
    schedule = await get_schedule(backend, HOURLY)
    assert schedule.last_error is not None
    assert schedule.last_error.code == "unknown_type"
    await scheduler_of(backend, "newer").run_once()
    assert len(await tasks_of(backend)) == 1
    assert (await get_schedule(backend, HOURLY)).last_error is None


async def test_a_payload_that_is_no_longer_accepted_stops_nobody_else(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit_slots, "REFUSED_S", 0.1)
    await put(backend, task={"type": "test.numbers", "payload": {"low": 1}})
    await put(backend, "good")
    await backend.mongo.collection("schedules").update_one({"_id": HOURLY}, {"$set": {"task.payload.low": -5}})
    slot = await make_due(backend)
    await make_due(backend, name="good")
    scheduler = scheduler_of(backend)
    await scheduler.run_once()
    assert len(await tasks_of(backend, "good")) == 1
    schedule = await get_schedule(backend, HOURLY)
    assert schedule.last_error is not None
    assert (schedule.last_error.code, schedule.next_run_at) == ("invalid", slot)
    assert "payload.low" in schedule.last_error.message
    await wait_until(lambda: not scheduler._refused_lately())
    await scheduler.run_once()
    assert (await get_schedule(backend, HOURLY)).last_error == schedule.last_error, "the same is not written again"
    await put(backend, task={"type": "test.numbers", "payload": {"low": 2}})
    assert (await get_schedule(backend, HOURLY)).last_error is None

    async def submitted() -> bool:
        await scheduler.run_once()
        return bool(await tasks_of(backend))

    await wait_until(submitted)
    [task] = await tasks_of(backend)
    assert task.schedule is not None
    assert task.schedule.slot_at == slot


async def test_a_slot_while_the_task_of_another_has_its_unique_key(backend: Backend) -> None:
    """So that a run that takes long is not overtaken by the next."""
    scheduler = scheduler_of(backend)
    await put(backend, task={"type": "echo", "unique_key": "report"})
    first = await make_due(backend)
    await scheduler.run_once()
    second = await make_due(backend)
    await scheduler.run_once()
    [task] = await tasks_of(backend)
    assert task.schedule is not None
    assert task.schedule.slot_at == first < second
    schedule = await get_schedule(backend, HOURLY)
    assert (schedule.last_run_at, schedule.last_task_id) == (second, task.id)
    assert await backend.tasks.cancel_waiting(TaskId(task.id), now=utc_now(), expire_at=None)
    await make_due(backend)
    await scheduler.run_once()
    assert len(await tasks_of(backend)) == 2


async def test_what_mongodb_refuses_stops_nobody_else(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bad", "good"):
        await put(backend, name)
        await make_due(backend, name=name)
    tasks_of_bad = submit.new_document

    def unstorable(submission: Any, *rest: Any) -> Any:
        document = tasks_of_bad(submission, *rest)
        if submission.payload == {"from": "bad"}:
            document["payload"] = {"x": 2**80}
        return document

    monkeypatch.setattr(submit_slots, "new_document", unstorable)
    await scheduler_of(backend).run_once()
    assert len(await tasks_of(backend, "good")) == 1
    assert await tasks_of(backend, "bad") == []
    bad = await get_schedule(backend, ScheduleName("bad"))
    assert bad.last_error is not None
    assert bad.last_error.code == "store_refused"
    assert (await stored(backend, "bad"))["taken"] is not None


async def test_a_handler_s_validator_that_breaks_stops_nobody_else(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad", "good"):
        await put(backend, name)
        await make_due(backend, name=name)
    plain = submit.new_document

    def breaking(submission: Any, *rest: Any) -> Any:
        if submission.payload == {"from": "bad"}:
            raise RuntimeError("a bug")
        return plain(submission, *rest)

    monkeypatch.setattr(submit_slots, "new_document", breaking)
    await scheduler_of(backend).run_once()
    assert len(await tasks_of(backend, "good")) == 1
    bad = await get_schedule(backend, ScheduleName("bad"))
    assert bad.last_error is not None
    assert bad.last_error.message == "a bug"


async def test_many_at_the_same_moment_go_in_pages(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_slots, "PAGE", 7)
    monkeypatch.setattr(submit_slots, "INSERT", 3)
    await put(backend)
    slot = await make_due(backend)
    schedules = backend.mongo.collection("schedules")
    document = dict(await stored(backend))
    await schedules.insert_many([{**document, "_id": f"s{number}", "creation": str(number)} for number in range(30)])
    await scheduler_of(backend).run_once()
    names = await backend.mongo.collection("tasks").distinct("schedule.name")
    assert len(names) == 31
    assert await backend.mongo.collection("tasks").count_documents({"schedule.slot_at": slot}) == 31


async def test_a_pause_holds_back_and_its_end_makes_up_for_one(backend: Backend) -> None:
    scheduler = scheduler_of(backend)
    await put(backend, interval=600)
    await make_due(backend, 25 * 60 * SECOND)
    await pause_schedule(backend, HOURLY)
    await scheduler.run_once()
    assert await tasks_of(backend) == []
    resumed = await resume_schedule(backend, HOURLY)
    await scheduler.run_once()
    [task] = await tasks_of(backend)
    assert task.schedule is not None
    assert task.schedule.slot_at == resumed.next_run_at


async def test_a_worker_alone_submits_and_runs(backend: Backend, run_worker: RunWorker) -> None:
    await put(backend)
    async with run_worker():
        await make_due(backend)
        await wait_until(lambda: tasks_of(backend))
        [task] = await tasks_of(backend)
        assert (await ended(backend, task)).result == {"from": HOURLY}


async def test_the_loop_goes_on_after_mongodb_was_away(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(backend)
    await make_due(backend)
    scheduler = scheduler_of(backend)
    take = ScheduleStore.take

    async def away(self: ScheduleStore, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(ScheduleStore, "take", take)
        raise StoreUnavailable("away")

    monkeypatch.setattr(ScheduleStore, "take", away)
    with pytest.raises(StoreUnavailable):
        await scheduler.run_once()
    await scheduler.run_once()
    assert len(await tasks_of(backend)) == 1


async def test_a_deleted_task_of_a_slot_does_not_come_back(backend: Backend) -> None:
    await put(backend)
    await make_due(backend)
    scheduler = scheduler_of(backend)
    await scheduler.run_once()
    [task] = await tasks_of(backend)
    assert await backend.tasks.cancel_waiting(TaskId(task.id), now=utc_now(), expire_at=None)
    assert await backend.tasks.delete(TaskId(task.id))
    await scheduler.run_once()
    assert await tasks_of(backend) == []


async def test_looking_is_carried_by_an_index(backend: Backend) -> None:
    await put(backend)
    found = backend.mongo.collection("schedules").find({"due_at": {"$lte": utc_now()}})
    assert "IXSCAN" in str((await found.explain())["queryPlanner"]["winningPlan"])
