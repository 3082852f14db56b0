"""What is counted of the slots of schedules."""

from datetime import timedelta

from app.core.clock import utc_now
from app.core.ids import ScheduleName
from app.services.backend import Backend
from app.services.keep_schedules import pause_schedule
from app.services.submit_slots import Scheduler
from app.telemetry.catalogue import Role, SlotOutcome
from app.telemetry.exposition import Exposition
from app.telemetry.metrics import Metrics
from tests.integration.test_schedules import HOURLY, SECOND, make_due, put
from tests.scraping import Scrape

LONG_AGO = timedelta(hours=2, minutes=30)


async def test_what_became_of_slots_is_counted(backend: Backend) -> None:
    metrics = Metrics(Role.WORKER)
    scheduler = Scheduler(backend.mongo, backend.acceptor, backend.types, holder="one", metrics=metrics)
    await put(backend)
    await make_due(backend, 2 * SECOND)
    for name in ("one", "skip"):
        await put(backend, name, catch_up=name)
        await make_due(backend, LONG_AGO, name)
    await put(backend, "held", interval=10, task={"type": "echo", "unique_key": "k"})
    await make_due(backend, 25 * SECOND, "held")
    await scheduler.run_once()
    await scheduler.run_once()
    told = Scrape(await Exposition(metrics).text())
    slots = {outcome: told.value("arqive_schedule_slots_total", outcome=outcome) for outcome in SlotOutcome}
    assert slots == {SlotOutcome.SUBMITTED: 3, SlotOutcome.EXISTING: 2, SlotOutcome.MISSED: 2 + 3}
    assert told.value("arqive_schedule_lateness_seconds_count") == 3
    late_s = (2 * SECOND + timedelta(minutes=30) + 25 * SECOND).total_seconds()
    assert late_s <= told.value("arqive_schedule_lateness_seconds_sum") < late_s + 30


async def test_a_slot_that_waits_is_seen(backend: Backend) -> None:
    assert await backend.schedules.due_longest(now=utc_now()) is None
    await put(backend)
    assert await backend.schedules.due_longest(now=utc_now()) is None
    slot = await make_due(backend, 30 * SECOND)
    await put(backend, "later")
    await make_due(backend, SECOND, "later")
    assert await backend.schedules.due_longest(now=utc_now()) == slot
    await pause_schedule(backend, HOURLY)
    await pause_schedule(backend, ScheduleName("later"))
    assert await backend.schedules.due_longest(now=utc_now()) is None
