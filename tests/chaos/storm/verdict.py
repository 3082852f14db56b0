"""What must hold after the storm, task by task: the record against the plan, the client's account and the runs."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app.core.limits import MAX_HISTORY
from app.core.states import TERMINAL
from tests.chaos.storm.client import Account
from tests.chaos.storm.fleet import MAX_LOSSES

TOLERANCE = timedelta(milliseconds=5)
"""The record's moments are cut to milliseconds, and the handler's come from another call of the clock."""

ERRORS = {
    "storm.hopeless": "handler_error",
    "storm.fail": "permanent",
}
"""What the types that never succeed fail with."""

FAILURES = {"failed", "timed_out", "lost"}


@dataclass(frozen=True, slots=True)
class Run:
    """One line that a handler left."""

    event: str
    attempt: int
    at: datetime
    pid: int

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S.%f} {self.event} of attempt {self.attempt} in process {self.pid}"


def read_runs(directory: Path) -> dict[str, list[Run]]:
    """What the handlers left behind, by task id."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for path in directory.iterdir():
        for line in path.read_text().splitlines():
            event, task_id, attempt, at_ms = line.split()
            at = datetime.fromtimestamp(int(at_ms) / 1000, UTC)
            runs[task_id].append(Run(event, int(attempt), at, int(path.name)))
    return {task_id: sorted(of_task, key=lambda run: run.at) for task_id, of_task in runs.items()}


def judge(document: dict[str, Any], account: Account, runs: list[Run]) -> Iterator[str]:
    """What is wrong with one task; `account` says what its client asked for."""
    if document["status"] not in TERMINAL:
        yield f"it is still {document['status']}"
        return
    if document["lease"] is not None:
        yield "it has ended and has a lease"
    if document["finished_at"] is None:
        yield "it ended at no time"
    if not 1 + account.retries_granted <= document["round"] <= 1 + account.retries_sent:
        yield f"round {document['round']} after {account.retries_granted} to {account.retries_sent} retries"
    yield from _attempts(document)
    yield from _outcome(document, account)
    yield from _against_runs(document, account, runs)


def _attempts(document: dict[str, Any]) -> Iterator[str]:
    attempt, losses = document["attempt"], document["losses"]
    if attempt - losses > document["max_attempts"]:
        yield f"{attempt} attempts, {losses} of them lost, with max_attempts {document['max_attempts']}"
    if losses > MAX_LOSSES:
        yield f"{losses} losses"
    if len(document["history"]) >= MAX_HISTORY:
        return  # the oldest entries are gone
    entries = [entry for entry in document["history"] if entry["round"] == document["round"]]
    # A released attempt gives its number back, unless a cancel ends the task with it.
    counted = [entry["attempt"] for entry in entries[:-1] if entry["outcome"] != "released"]
    if entries and (entries[-1]["outcome"] != "released" or document["status"] == "cancelled"):
        counted.append(entries[-1]["attempt"])
    cancelled_later = document["status"] == "cancelled" and counted == [*range(1, attempt + 1), attempt + 1]
    if counted != list(range(1, attempt + 1)) and not cancelled_later:
        yield f"attempt is {attempt}, its history counts {counted}"
    if sum(entry["outcome"] == "lost" for entry in entries) != losses:
        yield f"losses is {losses}, its history has another number of them"


def _outcome(document: dict[str, Any], account: Account) -> Iterator[str]:
    status, history = document["status"], document["history"]
    completed = [place for place, entry in enumerate(history, 1) if entry["outcome"] == "completed"]
    if completed != ([len(history)] if status == "completed" else []):
        yield f"it is {status}, and these of its {len(history)} attempts completed: {completed}"
    if account.cancelled and not account.retries_sent and status != "cancelled":
        yield f"the client was told that it is cancelled, and it is {status}"
    match status:
        case "completed":
            yield from _completed(document, account)
        case "failed":
            yield from _failed(document, account)
        case "cancelled" if not account.cancels_sent:
            yield "it is cancelled, and nobody asked for that"


def _completed(document: dict[str, Any], account: Account) -> Iterator[str]:
    if document["type"] in ERRORS:
        yield "it completed, which its handler never does"
    if document["result"] != {"number": account.planned.number}:
        yield f"its result is {document['result']}"
    if document["error"] is not None:
        yield f"it completed with the error {document['error']}"
    if document["attempt"] < account.planned.until:
        yield f"it completed in attempt {document['attempt']}, before it could"


def _failed(document: dict[str, Any], account: Account) -> Iterator[str]:
    code = (document["error"] or {}).get("code")
    last = document["history"][-1]["outcome"] if document["history"] else None
    if document["result"] is not None:
        yield f"it failed with the result {document['result']}"
    match code:
        case "lost":
            if (document["losses"], last) != (MAX_LOSSES, "lost"):
                yield f"it failed as lost after {document['losses']} losses"
            return
        case "expired":
            if document["start_before"] is None or document["finished_at"] < document["start_before"]:
                yield f"it expired at {document['finished_at']}, and had time until {document['start_before']}"
            return
    if last not in FAILURES:
        yield f"it failed, and its last attempt {last}"
    if code != ERRORS.get(document["type"]):
        yield f"it failed with {code}"
    if code == "handler_error" and document["attempt"] - document["losses"] != document["max_attempts"]:
        yield f"it failed for good in attempt {document['attempt']} of {document['max_attempts']}"


def _against_runs(document: dict[str, Any], account: Account, runs: list[Run]) -> Iterator[str]:
    starts = [run for run in runs if run.event == "start"]
    if account.run_at and not account.retries_sent and starts and starts[0].at < account.run_at - TOLERANCE:
        yield f"it ran at {starts[0].at}, before {account.run_at}"
    history = document["history"]
    for entry in history:
        if entry["outcome"] == "completed" and not any(run.event == "end" and _belongs(run, entry) for run in runs):
            yield f"attempt {entry['attempt']} is recorded as completed, and no handler got there"
    if len(history) >= MAX_HISTORY:
        return
    for run in starts:
        if not any(_belongs(run, entry) for entry in history):
            yield f"no record accounts for the {run}"


def _belongs(run: Run, entry: dict[str, Any]) -> bool:
    """Whether the run is of that attempt. One that was lost may start late: its worker was frozen just before."""
    return (
        run.attempt == entry["attempt"]
        and run.pid == int(entry["worker"].rsplit("-", 2)[1])
        and run.at >= entry["started_at"] - TOLERANCE
        and (entry["outcome"] == "lost" or run.at <= entry["finished_at"] + TOLERANCE)
    )
