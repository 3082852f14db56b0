"""What a handler reports through its context, and what the worker takes from it."""

import threading
from datetime import UTC

import pytest

from app import Context
from app.core import limits
from app.core.ids import TaskId
from app.services.context import HttpAccess


@pytest.fixture
def ctx() -> Context:
    http = HttpAccess(session=None, guarded=None)  # type: ignore[arg-type]  # no test here makes a request
    return Context(task_id=TaskId("a" * 24), attempt=2, type="report", queue="default", http=http)


def test_nothing_is_taken_when_nothing_was_reported(ctx: Context) -> None:
    assert ctx.take() == (None, [])


def test_the_last_progress_and_every_line_are_taken_once(ctx: Context) -> None:
    ctx.progress(0.1)
    ctx.log("one")
    ctx.progress(0.2, "half of half")
    ctx.log("two")
    progress, lines = ctx.take()
    assert progress is not None
    assert (progress["value"], progress["message"]) == (0.2, "half of half")
    assert progress["at"].tzinfo is UTC
    assert [(line["attempt"], line["message"]) for line in lines] == [(2, "one"), (2, "two")]
    assert ctx.take() == (None, [])


@pytest.mark.parametrize("value", [0, 1, 0.5])
def test_progress_is_between_none_and_all(ctx: Context, value: float) -> None:
    ctx.progress(value)
    progress, _ = ctx.take()
    assert progress is not None
    assert progress["value"] == value
    assert type(progress["value"]) is float


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf"), 50])
def test_other_progress_is_refused_and_reports_nothing(ctx: Context, value: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        ctx.progress(value)
    assert ctx.take() == (None, [])


def test_texts_are_cut_at_their_limits(ctx: Context) -> None:
    ctx.progress(0.5, "x" * 10_000)
    ctx.log("y" * 10_000)
    progress, [line] = ctx.take()
    assert progress is not None
    assert progress["message"] == "x" * limits.MAX_PROGRESS_MESSAGE
    assert line["message"] == "y" * limits.MAX_LOG_LINE


def test_the_newest_lines_are_kept(ctx: Context) -> None:
    for number in range(limits.MAX_LOG_LINES + 50):
        ctx.log(str(number))
    _, lines = ctx.take()
    assert [line["message"] for line in lines] == [str(number) for number in range(50, limits.MAX_LOG_LINES + 50)]


@pytest.mark.parametrize("message", ["a\ud800b", "\udcff", ValueError("\ud800")])
def test_text_that_utf8_cannot_hold_does_not_spoil_the_report(ctx: Context, message: object) -> None:
    ctx.log(message)  # type: ignore[arg-type]
    ctx.progress(0.5, message)  # type: ignore[arg-type]
    progress, [line] = ctx.take()
    assert progress is not None
    assert "?" in line["message"].encode().decode()
    assert "?" in progress["message"].encode().decode()


def test_the_worker_is_told_of_each_report_after_it_can_be_taken(ctx: Context) -> None:
    seen: list[tuple[bool, int]] = []

    def on_report() -> None:
        progress, lines = ctx.take()
        seen.append((progress is not None, len(lines)))

    ctx.on_report(on_report)
    ctx.progress(0.5)
    ctx.log("line")
    assert seen == [(True, 0), (False, 1)]


def test_it_is_cancelled_once_stopped(ctx: Context) -> None:
    assert not ctx.cancelled
    ctx.stop()
    assert ctx.cancelled


def test_no_line_is_lost_or_doubled_between_threads(ctx: Context) -> None:
    """Writers stay below the cap between two takes, so that every line must arrive."""
    batch = limits.MAX_LOG_LINES // 4
    taken: list[str] = []
    together = threading.Barrier(5)

    def write(writer: int) -> None:
        for turn in range(20):
            together.wait(10)
            for number in range(batch):
                ctx.log(f"{writer}/{turn}/{number}")
                ctx.progress(number / batch)
            together.wait(10)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        together.wait(10)
        taken += [line["message"] for line in ctx.take()[1]]
        together.wait(10)
        taken += [line["message"] for line in ctx.take()[1]]
    for thread in threads:
        thread.join(10)
    assert sorted(taken) == sorted(f"{w}/{t}/{n}" for w in range(4) for t in range(20) for n in range(batch))
