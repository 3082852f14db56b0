"""`arqive tasks submit`: one task from options, or any number from a file or the input."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from app.commands.arguments import read_duration, read_moment, read_object
from app.commands.each_task import wait_for
from app.commands.session import CommandFailed, ExitCode, Session, exit_code_of, sentence_of

if TYPE_CHECKING:
    from app.client import RequestFailed, TaskOptions

LINES = 1_000
"""Read, sent and told of at a time."""

_REFUSED = "refused"  # beside the values of AcceptedAs


def _text(metavar: str, about: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=about)


def _duration(about: str) -> Any:
    return typer.Option(parser=read_duration, metavar="DURATION", help=about)


def _moment(about: str) -> Any:
    return typer.Option(parser=read_moment, metavar="MOMENT", help=about)


Type = Annotated[str | None, typer.Argument(metavar="TYPE", help="The task's type; see `arqive types`.")]
Payload = Annotated[str | None, _text("JSON", "A JSON object, @FILE, or - for the input.", "--payload", "-p")]
File = Annotated[
    str | None,
    _text("FILE", "Instead of TYPE: a task a line, each a JSON object; - for the input.", "--file", "-f"),
]
Queue = Annotated[str | None, _text("QUEUE", "The line it waits in.")]
Priority = Annotated[int | None, typer.Option(min=0, max=9, help="Higher first.")]
Delay = Annotated[timedelta | None, _duration("Not before so long from now, such as 90, 5m, 2h or 1d.")]
RunAt = Annotated[datetime | None, _moment("Not before, such as 2030-01-31T08:00:00Z.")]
StartBefore = Annotated[datetime | None, _moment("Fail it if an attempt cannot start before.")]
MaxAttempts = Annotated[int | None, typer.Option(min=1, help="How often to try.")]
Timeout = Annotated[timedelta | None, _duration("What one attempt may take.")]
Tags = Annotated[list[str], _text("TAG", "A label; may be repeated.")]
Callback = Annotated[str | None, _text("URL", "Where to POST the outcome to.")]
UniqueKey = Annotated[str | None, _text("KEY", "No second one while a task with this key has not ended.")]
IdempotencyKey = Annotated[str | None, _text("KEY", "Submit once, however often this runs with the same key.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait until it has ended; exit with 1 if it fails.")]


async def submit(
    session: Session,
    type_: Type = None,
    payload: Payload = None,
    file: File = None,
    queue: Queue = None,
    priority: Priority = None,
    delay: Delay = None,
    run_at: RunAt = None,
    start_before: StartBefore = None,
    max_attempts: MaxAttempts = None,
    timeout: Timeout = None,  # noqa: ASYNC109 - of the task
    tag: Tags = [],
    callback: Callback = None,
    unique_key: UniqueKey = None,
    idempotency_key: IdempotencyKey = None,
    wait: Wait = False,
) -> int:
    """Submit a task, or with --file any number of them."""
    options = {
        "queue": queue, "priority": priority, "delay": delay, "run_at": run_at, "start_before": start_before,
        "max_attempts": max_attempts, "timeout": timeout, "tags": tag or None,
        "callback": {"url": callback} if callback else None, "unique_key": unique_key,
    }  # fmt: skip
    given = cast("TaskOptions", {name: value for name, value in options.items() if value is not None})
    if file is not None:
        if type_ or payload or given or idempotency_key or wait:
            raise CommandFailed("--file takes all of each task from its line: give nothing else", ExitCode.BAD_USAGE)
        return await _submit_file(session, file)
    if type_ is None:
        raise CommandFailed("give the TYPE of the task, or --file", ExitCode.BAD_USAGE)
    body = {} if payload is None else await asyncio.to_thread(read_object, "payload", payload)
    task = await session.client.submit(type_, body, idempotency_key=idempotency_key, **given)
    from app.client.accepted import accepted  # noqa: PLC0415 - not for the help and the completion
    from app.commands.task_view import news_of_submission  # noqa: PLC0415 - as above

    if wait:
        session.output.note(news_of_submission(task))
        return await wait_for(session, [task.id], None, as_told=lambda ended: accepted(ended, task.accepted_as))
    session.output.say(task, news_of_submission(task))
    return ExitCode.DONE


async def _submit_file(session: Session, name: str) -> int:
    counts: Counter[str] = Counter()
    with _open(name) as file, session.output.progress("Submitting", None) as advance:
        lines = _numbered(file)
        while chunk := await asyncio.to_thread(lambda: list(islice(lines, LINES))):
            counts += await _submit_lines(session, chunk)
            advance(len(chunk))
    there = {"replayed": "submitted before", "existing": "there with their unique key"}
    told = [f"{counts[kind]:,} {text}" for kind, text in there.items() if counts[kind]]
    session.output.note(", ".join([f"{counts['new']:,} submitted", *told, f"{counts[_REFUSED]:,} refused"]))
    return ExitCode.FAILED if counts[_REFUSED] else ExitCode.DONE


def _open(name: str) -> Any:
    if name == "-":
        return nullcontext(sys.stdin)
    try:
        return Path(name).open(encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"--file: {error}", ExitCode.BAD_USAGE) from error


def _numbered(file: TextIO) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(file, 1) if line.strip())


async def _submit_lines(session: Session, lines: list[tuple[int, str]]) -> "Counter[str]":
    """Submit the tasks of some lines and tell of each in order; how many were new, there already, or refused.

    Raises:
        CommandFailed: the service could not be asked about all of them.
    """
    from app.client import AcceptedTask, Invalid  # noqa: PLC0415 - not for the help and the completion

    read = [(number, _read_line(text)) for number, text in lines]
    outcomes = iter(await session.client.submit_many(task for _, task in read if isinstance(task, dict)))
    counts: Counter[str] = Counter()
    for number, task in read:
        outcome = next(outcomes) if isinstance(task, dict) else None
        if isinstance(outcome, AcceptedTask):
            counts[outcome.accepted_as] += 1
            if session.output.as_json:
                session.output.json(outcome)
            continue
        if outcome is not None and not isinstance(outcome, Invalid):
            raise CommandFailed(f"from line {number} on nothing is submitted: {outcome}", exit_code_of(outcome))
        _tell_refusal(session, number, outcome, task)
        counts[_REFUSED] += 1
    return counts


def _read_line(text: str) -> dict[str, Any] | str:
    """The task, or what is wrong with the line."""
    try:
        task = json.loads(text)
    except ValueError as error:
        return f"is not JSON: {error}"
    return task if isinstance(task, dict) else "is no JSON object"


def _tell_refusal(session: Session, number: int, error: "RequestFailed | None", reason: object) -> None:
    if error is None:
        said, code, fields = str(reason), "bad_json", []
    else:
        said, code = sentence_of(error), error.code
        fields = [{"field": bad.field, "message": bad.message} for bad in error.refusal.fields]
    if session.output.as_json:
        session.output.json({"line": number, "code": code, "detail": said, "errors": fields})
    session.output.complain(f"line {number}: {said}")
