"""What a process counts, and how it is told."""

import re
import socket
import time
import timeit
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.attempt import Attempt, Settlement
from app.core.backoff import Backoff
from app.core.clock import utc_now
from app.core.ids import LeaseToken, TaskId, WorkerId
from app.core.outcomes import Cancelled, Completed, ErrorCode, Failed, Failure, Outcome, Released, Rescheduled
from app.core.states import Status
from app.services.expose import families_of
from app.services.observe import QueueStats, Stats
from app.telemetry.catalogue import CATALOGUE, COUNTED, Kind, Operation, Role
from app.telemetry.exposition import Exposition, Seat
from app.telemetry.metrics import MAX_QUEUES, OTHER, Metrics
from tests.scraping import Scrape

NOW = utc_now()
FAILURE = Failure(ErrorCode.HANDLER_ERROR, "boom")
LATE = Failure(ErrorCode.TIMED_OUT, "late")


def attempt(**changes: Any) -> Attempt:
    fields: dict[str, Any] = {
        "task_id": TaskId("a" * 24), "token": LeaseToken("t"), "worker": WorkerId("w"), "type": "echo",
        "queue": "default", "priority": 0, "payload": {}, "round": 1, "number": 1, "losses": 0, "max_attempts": 3,
        "timeout": timedelta(seconds=60), "backoff": Backoff(), "started_at": NOW, "cancel_requested": False,
        "run_at": NOW - timedelta(seconds=2), "created_at": NOW - timedelta(seconds=7), **changes,
    }  # fmt: skip
    return Attempt(**fields)


async def scrape(metrics: Metrics) -> Scrape:
    return Scrape(await Exposition(metrics).text())


@pytest.mark.parametrize("role", Role)
async def test_a_role_has_the_metrics_of_its_own(role: Role) -> None:
    families = (await scrape(Metrics(role))).families
    named = {spec.name.removesuffix("_total"): spec for spec in COUNTED}
    assert {name for name in families if name.startswith("arqive_")} == {
        name for name, spec in named.items() if role in spec.roles
    }
    assert "process_resident_memory" in " ".join(families)
    for name, spec in named.items():
        if role in spec.roles:
            assert (families[name].type, families[name].documentation) == (spec.kind, spec.meaning)


def test_names_say_what_they_are() -> None:
    assert len({spec.name for spec in CATALOGUE}) == len(CATALOGUE)
    for spec in CATALOGUE:
        assert spec.name.endswith("_total") == (spec.kind is Kind.COUNTER), spec.name
        assert bool(spec.buckets) == (spec.kind is Kind.HISTOGRAM), spec.name


@pytest.mark.parametrize(
    ("outcome", "attempts", "finished"),
    [
        (Completed(1), "completed", "completed"),
        (Failed(FAILURE), "failed", "failed"),
        (Failed(LATE), "timed_out", "timed_out"),
        (Cancelled(), "cancelled", "cancelled"),
        (Cancelled(instead_of=Rescheduled(LATE, NOW)), "timed_out", "cancelled"),
        (Cancelled(instead_of=Released(NOW)), "released", "cancelled"),
        (Rescheduled(FAILURE, NOW), "failed", None),
        (Rescheduled(LATE, NOW), "timed_out", None),
        (Released(NOW), "released", None),
    ],
)
async def test_an_outcome_counts_once(outcome: Outcome, attempts: str, finished: str | None) -> None:
    metrics = Metrics(Role.WORKER)
    metrics.settled(Settlement(attempt(), outcome, NOW + timedelta(seconds=3)))
    told = await scrape(metrics)
    assert told.value("arqive_attempts_total") == 1
    assert told.value("arqive_attempts_total", type="echo", queue="default", outcome=attempts) == 1
    assert told.value("arqive_task_run_seconds_sum", type="echo") == 3
    assert told.labels("arqive_tasks_finished_total", "outcome") == ({finished} if finished else set())
    assert told.value("arqive_tasks_finished_total", type="echo", queue="default") == (1 if finished else 0)
    assert told.value("arqive_task_total_seconds_sum", type="echo") == (10 if finished else 0)


async def test_the_wait_is_from_due_to_begun() -> None:
    metrics = Metrics(Role.WORKER)
    metrics.begun(attempt())
    metrics.begun(attempt(run_at=NOW + timedelta(seconds=1)))  # clocks differ
    metrics.begun(attempt(taken_over=True))
    told = await scrape(metrics)
    assert told.value("arqive_task_wait_seconds_sum", queue="default") == 2
    assert told.value("arqive_task_wait_seconds_count", queue="default") == 2
    assert told.value("arqive_leases_taken_over_total", queue="default") == 1
    assert told.value("arqive_attempts_total", outcome="lost") == 1


async def test_queues_that_clients_make_do_not_grow_the_answer_without_end() -> None:
    metrics = Metrics(Role.WEB)
    for number in range(MAX_QUEUES + 20):
        metrics.accepted("echo", f"tenant-{number}")
    metrics.accepted("echo", "tenant-0")
    told = await scrape(metrics)
    assert len(told.labels("arqive_tasks_accepted_total", "queue")) == MAX_QUEUES + 1
    assert told.value("arqive_tasks_accepted_total", queue=OTHER) == 20
    assert told.value("arqive_tasks_accepted_total", queue="tenant-0") == 2


def test_of_many_queues_the_busiest_are_told_apart() -> None:
    queues = {f"q{number}": QueueStats(number, 0, 0, float(number), paused=False) for number in range(MAX_QUEUES + 2)}
    families = {family.name: family for family in families_of(Stats(dict.fromkeys(Status, 1), queues, 2))}
    ready = {sample.labels["queue"]: sample.value for sample in families["arqive_queue_ready"].samples}
    assert len(ready) == MAX_QUEUES + 1
    assert (ready[OTHER], ready["q2"], ready[f"q{MAX_QUEUES + 1}"]) == (1, 2, MAX_QUEUES + 1)
    oldest = {sample.labels["queue"]: sample.value for sample in families["arqive_queue_oldest_ready_seconds"].samples}
    assert oldest[OTHER] == 1
    assert [sample.value for sample in families["arqive_workers"].samples] == [2]


async def test_slots_are_asked_for_at_the_scrape() -> None:
    metrics, used = Metrics(Role.WORKER), [1]
    metrics.watch_slots(8, lambda: used[0])
    assert (await scrape(metrics)).value("arqive_worker_slots_used") == 1
    used[0] = 5
    told = await scrape(metrics)
    assert (told.value("arqive_worker_slots"), told.value("arqive_worker_slots_used")) == (8, 5)


async def test_whichever_process_is_scraped_tells_of_all(tmp_path: Path) -> None:
    """Also that one of three does not run."""
    expositions = []
    for number in range(2):
        metrics = Metrics(Role.WORKER)
        for _ in range(number + 1):
            metrics.batch(Operation.CLAIM, 10)
        expositions.append(Exposition(metrics, Seat.parse(f"{tmp_path}:{number}:3")))
    async with expositions[0].open(), expositions[1].open():
        for exposition in expositions:
            told = Scrape(await exposition.text())
            assert told.value("arqive_batch_size_count", process="0") == 1
            assert told.value("arqive_batch_size_count", process="1") == 2
            assert told.value("arqive_batch_size_sum") == 30
            assert [told.value("arqive_process_up", process=str(number)) for number in range(3)] == [1, 1, 0]
            assert told.labels("process_cpu_seconds_total", "process") == {"0", "1"}
    told = Scrape(await expositions[0].text())
    assert [told.value("arqive_process_up", process=str(number)) for number in range(3)] == [1, 0, 0]


async def test_a_process_that_takes_the_place_of_a_killed_one_answers(tmp_path: Path) -> None:
    seats = [Seat(str(tmp_path), number, 2) for number in range(2)]
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "1.sock"))  # stays behind
    async with Exposition(Metrics(Role.WEB), seats[1]).open():
        told = Scrape(await Exposition(Metrics(Role.WEB), seats[0]).text())
    assert told.value("arqive_process_up", process="1") == 1


@pytest.mark.parametrize("directory", ["", "/nowhere/at/all"])
async def test_without_a_directory_each_tells_of_itself(directory: str, caplog: pytest.LogCaptureFixture) -> None:
    exposition = Exposition(Metrics(Role.WEB), Seat.parse(f"{directory}:1:2"))
    async with exposition.open():
        told = Scrape(await exposition.text())
    assert told.labels("arqive_info", "process") == {"1"}
    assert told.value("arqive_process_up", process="0") == 0
    assert ("cannot ask this process" in caplog.text) == bool(directory)


def test_counting_is_cheap() -> None:
    """A task costs hundreds of microseconds; what counts it may take some of them, and no more for many."""
    metrics, settlement = Metrics(Role.WORKER), Settlement(attempt(), Completed(1), NOW)

    def once() -> None:
        metrics.begun(settlement.attempt)
        metrics.settled(settlement)

    assert _microseconds(once) < 100


def _microseconds(call: Callable[[], None]) -> float:
    return min(timeit.repeat(call, number=1000, repeat=5, timer=time.thread_time)) * 1000


def test_the_documentation_names_only_metrics_that_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs/observability.md").read_text(encoding="utf-8")
    known = {spec.name for spec in CATALOGUE}
    known |= {f"{spec.name}_{end}" for spec in CATALOGUE if spec.buckets for end in ("bucket", "sum", "count")}
    named = set(re.findall(r"\barqive_\w+[a-z]\b", page)) - {"arqive_queue"}
    assert len(named) > 10
    assert named <= known
