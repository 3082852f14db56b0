"""Real processes look after schedules and are killed, frozen and cut off: each slot becomes exactly one task."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from app.core.clock import utc_now
from app.core.faults import FaultPoint
from app.core.ids import ScheduleName
from app.schedule_models import ScheduleSpec
from app.services.backend import Backend
from app.services.keep_schedules import delete_schedule, put_schedule
from app.services.submit_slots import Scheduler
from app.store.mongo import open_mongo
from settings import Settings
from tests.faults import VARIABLE
from tests.processes import Process, started
from tests.servers import measured, own_mongo, proxy_to, running_web
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

SCHEDULES = 20
ROUNDS = int(os.environ.get("ARQIVE_TEST_KILLS", "8"))
MODULES = "tests.sample_tasks,tests.faults"

Slots = Counter[tuple[str, datetime]]


async def _put_all(backend: Backend, *, interval: float = 1.0, count: int = SCHEDULES) -> None:
    for number in range(count):
        spec = ScheduleSpec.model_validate({"interval": interval, "task": {"type": "echo"}})
        await put_schedule(backend, ScheduleName(f"s{number}"), spec)


async def _slots(backend: Backend) -> Slots:
    found: Slots = Counter()
    async for task in backend.mongo.collection("tasks").find({}, {"schedule": 1}):
        found[task["schedule"]["name"], task["schedule"]["slot_at"]] += 1
    return found


async def _assert_each_slot_once(backend: Backend, *, interval: float = 1.0, count: int = SCHEDULES) -> int:
    """From the first to the last slot of each schedule, none is missing and none is there twice."""
    slots = await _slots(backend)
    assert set(slots.values()) == {1}
    for number in range(count):
        moments = sorted(slot for name, slot in slots if name == f"s{number}")
        steps = {later - earlier for earlier, later in pairwise(moments)}
        assert steps == {timedelta(seconds=interval)}, f"s{number}"
    return len(slots)


@pytest.mark.parametrize("point", [FaultPoint.AFTER_TAKE, FaultPoint.AFTER_SLOTS])
async def test_who_is_killed_at(backend: Backend, settings: Settings, tmp_path: Path, point: FaultPoint) -> None:
    """Another process takes the slots over, with the same ids."""
    changes = {"task_modules": MODULES, "queues": "elsewhere"}
    with started("worker", settings, tmp_path, **changes, **{VARIABLE: f"{point}=crash"}) as victim:
        await wait_until(lambda: victim.logged("serves"), 20)
        await wait_until(lambda: _holder(backend), 20, "it looks after the schedules")
        await _put_all(backend)
        assert await asyncio.to_thread(victim.wait) == -signal.SIGKILL
        killed, died = time.monotonic(), utc_now()
        left = await _slots(backend)
        assert bool(left) is (point is FaultPoint.AFTER_SLOTS)
        with started("worker", settings, tmp_path, **changes, **{VARIABLE: ""}):

            async def on_time() -> bool:
                behind = {"$or": [{"next_run_at": {"$lt": died + timedelta(seconds=5)}}, {"taken": {"$ne": None}}]}
                return not await backend.mongo.collection("schedules").count_documents(behind)

            await wait_until(on_time, 40, "what was left is taken over")
            measured(f"{point}=crash: on time again {time.monotonic() - killed:.1f} s after")
            assert set(left) <= set(await _slots(backend))
    await _assert_each_slot_once(backend)


async def _holder(backend: Backend) -> bool:
    duty = await backend.mongo.collection("meta").find_one({"_id": {"$regex": "^schedules:"}})
    return duty is not None and duty["holder"] is not None


async def test_each_slot_is_one_task_whoever_is_killed_or_frozen(
    backend: Backend, settings: Settings, tmp_path: Path
) -> None:
    """Three processes; every other second one of them dies or stops for a while."""
    seed = int(os.environ.get("STORM_SEED") or random.randrange(10_000))
    dice = random.Random(seed)
    measured(f"seed {seed}")
    with ExitStack() as stack:

        def start() -> Process:
            return stack.enter_context(started("worker", settings, tmp_path, queues="elsewhere"))

        processes = [start() for _ in range(3)]
        await wait_until(lambda: all(process.logged("serves") for process in processes), 30)
        await _put_all(backend)
        for _ in range(ROUNDS):
            await _seconds(dice.uniform(1, 3))
            holder = await _pid_of_holder(backend)
            victim = next((each for each in processes if each.pid == holder), dice.choice(processes))
            if dice.random() < 0.5:
                victim.send(signal.SIGKILL)
                await asyncio.to_thread(victim.wait)
                processes.remove(victim)
                processes.append(start())
            else:
                victim.send(signal.SIGSTOP)
                await _seconds(dice.uniform(1, 12))
                victim.send(signal.SIGCONT)
        begun = utc_now()

        async def caught_up() -> bool:
            late = {"next_run_at": {"$lt": begun}}
            taken = {"taken": {"$ne": None}, "due_at": {"$lt": utc_now()}}
            schedules = backend.mongo.collection("schedules")
            return not await schedules.count_documents(late) and not await schedules.count_documents(taken)

        await wait_until(caught_up, 40, "all slots up to now are submitted")
        for number in range(SCHEDULES):
            await delete_schedule(backend, ScheduleName(f"s{number}"))
        await _seconds(2)
        kept = await _slots(backend)
        await _seconds(2)
        assert await _slots(backend) == kept, "a deleted schedule submits nothing"
    count = await _assert_each_slot_once(backend)
    measured(f"{count} slots of {SCHEDULES} schedules, each one task")


async def _seconds(seconds: float) -> None:
    """Let real time pass: that is what a schedule is about."""
    end = time.monotonic() + seconds
    await wait_until(lambda: time.monotonic() >= end, seconds + 5)


async def _pid_of_holder(backend: Backend) -> int | None:
    """From its name, which ends in the process id and a random part."""
    duty = await backend.mongo.collection("meta").find_one({"_id": {"$regex": "^schedules:"}})
    return int(duty["holder"].rsplit("-", 2)[1]) if duty and duty["holder"] else None


async def test_a_thousand_at_the_same_minute(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    """Two processes, one slot: how long it takes until the last is submitted."""
    count = int(os.environ.get("ARQIVE_TEST_SCHEDULES", "1000"))
    await _put_all(backend, interval=86_400, count=1)
    schedules = backend.mongo.collection("schedules")
    document = await schedules.find_one({"_id": "s0"})
    assert document is not None
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(started("worker", settings, tmp_path, queues="elsewhere"))
        await wait_until(lambda: _holder(backend), 20)
        slot = utc_now().replace(microsecond=0) + timedelta(seconds=8)
        due = {"anchor_at": slot, "next_run_at": slot, "due_at": slot}
        await schedules.insert_many(
            [{**document, **due, "_id": f"t{number}", "creation": f"{number}"} for number in range(count)]
        )
        tasks = backend.mongo.collection("tasks")

        async def all_there() -> bool:
            return await tasks.count_documents({}) == count

        await wait_until(all_there, 60)
        measured(f"{count} schedules at one moment: {(utc_now() - slot).total_seconds():.1f} s")
    assert set((await _slots(backend)).values()) == {1}


async def test_slots_go_on_after_mongodb_was_killed(settings: Settings, tmp_path: Path) -> None:
    """What fell into the outage is submitted when it is over, each slot once."""
    (tmp_path / "mongo").mkdir()
    async with AsyncExitStack() as stack:
        mongo = await stack.enter_async_context(own_mongo(tmp_path / "mongo"))
        logs = tmp_path / "logs"
        logs.mkdir()
        web = await stack.enter_async_context(running_web(settings, logs, mongo_url=mongo.server.url))
        stack.enter_context(started("worker", settings, logs, mongo_url=mongo.server.url))
        put = await web.call("PUT", "/schedules/s0", {"interval": 1, "task": {"type": "echo"}})
        assert put.status == 201, put

        async def slots() -> list[datetime]:
            answer = await web.get("/tasks?schedule=s0&limit=500")
            items = answer.body["items"] if answer.status == 200 else []
            return sorted(datetime.fromisoformat(task["schedule"]["slot_at"]) for task in items)

        async def some() -> bool:
            return len(await slots()) >= 3

        await wait_until(some, 20)
        await mongo.kill()
        await _seconds(5)
        await mongo.start()
        back = utc_now()

        async def gone_on() -> bool:
            found = await slots()
            return bool(found) and found[-1] > back + timedelta(seconds=3)

        await wait_until(gone_on, 60, "slots after the outage")
        measured(f"on time again {(utc_now() - back).total_seconds():.1f} s after its start")
        found = await slots()
        steps = {later - earlier for earlier, later in pairwise(found)}
        assert steps == {timedelta(seconds=1)}


async def test_watching_costs_next_to_nothing(settings: Settings, backend: Backend) -> None:
    """Messages to MongoDB for a look that finds nothing, one a second, and for one that renews the duty as well."""
    sent = 0
    mongo_port = int(settings.mongo_url.get_secret_value().rsplit(":", 1)[1].split("/")[0])

    def count(piece: bytes, to_server: bool) -> bool:
        nonlocal sent
        sent += to_server and b"hello" not in piece and b"endSessions" not in piece
        return True

    async with proxy_to(mongo_port) as proxy:
        proxy.judge = count
        async with open_mongo(f"mongodb://127.0.0.1:{proxy.port}", settings.mongo_database) as mongo:
            costs = {}
            watchers = [Scheduler(mongo, backend.acceptor, backend.types, holder=each) for each in ("works", "waits")]
            for scheduler in watchers:
                await scheduler.run_once()
            for name, scheduler in zip(("works", "waits"), watchers, strict=True):
                sent = 0
                await scheduler.run_once()
                costs[name] = sent
            watchers[0]._renew_at = 0.0
            sent = 0
            await watchers[0].run_once()
            costs["works and renews"] = sent
    measured(f"one look that finds nothing: {costs}")
    assert costs["works"] == 1
    assert costs["works and renews"] <= 3
    assert costs["waits"] <= 2
