"""Retry and cancel: tasks that are named, or all that match."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from app.commands import each_task
from app.commands.session import CommandFailed, ExitCode, Session

if TYPE_CHECKING:
    from app.client import Cancelled, Retried, TaskFilter


@dataclass(frozen=True, slots=True)
class Scope:
    """Which tasks, and how sure the caller is.

    Attributes:
        ids: These; else those of the filter.
        which: All that match.
        everything: Instead of a filter: all there are.
        dry_run: Count, change nothing.
        sure: Do not ask.
    """

    ids: Sequence[str]
    which: "TaskFilter"
    everything: bool
    dry_run: bool
    sure: bool

    def check(self) -> None:
        """Whether it says one thing.

        Raises:
            CommandFailed: it says nothing, or two things.
        """
        ways = [bool(self.ids), bool(self.which), self.everything]
        if sum(ways) != 1:
            raise CommandFailed("give ids, or options that say which tasks, or --all", ExitCode.BAD_USAGE)
        if self.ids and self.dry_run:
            raise CommandFailed("--dry-run is for options that say which tasks", ExitCode.BAD_USAGE)


async def retry(session: Session, scope: Scope) -> int:
    """Give tasks another round of attempts; the exit code."""

    async def change(*, dry_run: bool, so_far: Callable[[Any], object]) -> "Retried":
        return await session.client.retry_all(
            everything=scope.everything, dry_run=dry_run, so_far=so_far, **scope.which
        )

    def told(total: "Retried") -> str:
        conflicts = f", {total.conflicts:,} left alone since their unique key is taken" if total.conflicts else ""
        return f"{total.changed:,} tasks are pending again{conflicts}"

    scope.check()
    if scope.ids:
        return await each_task.change(session, scope.ids, session.client.retry, "is pending again")
    return await _change_all(session, scope, "Retry", change, told)


async def cancel(session: Session, scope: Scope) -> int:
    """Cancel tasks, or ask for it; the exit code."""

    async def change(*, dry_run: bool, so_far: Callable[[Any], object]) -> "Cancelled":
        return await session.client.cancel_all(
            everything=scope.everything, dry_run=dry_run, so_far=so_far, **scope.which
        )

    def told(total: "Cancelled") -> str:
        asked = f", {total.requested:,} of them as soon as they have stopped" if total.requested else ""
        return f"{total.changed:,} tasks are cancelled{asked}"

    scope.check()
    if scope.ids:
        return await each_task.change(session, scope.ids, session.client.cancel, "")
    return await _change_all(session, scope, "Cancel", change, told)


async def _change_all(
    session: Session, scope: Scope, verb: str, change: Callable[..., Awaitable[Any]], told: Callable[[Any], str]
) -> int:
    asks = session.output.is_conversation and not scope.sure
    matched = None
    if asks or scope.dry_run:
        count = await change(dry_run=True, so_far=lambda _total: None)
        matched = count.matched
        if scope.dry_run:
            session.output.say(count, f"{matched:,} tasks match")
            return ExitCode.DONE
        if not await asyncio.to_thread(typer.confirm, f"{verb} {matched:,} tasks?"):
            raise CommandFailed("nothing is changed", ExitCode.FAILED)
    with session.output.progress("Tasks", matched) as advance:
        done = 0

        def so_far(total: Any) -> None:
            nonlocal done
            advance(total.matched - done)
            done = total.matched

        total = await change(dry_run=False, so_far=so_far)
    session.output.say(total, told(total))
    return ExitCode.DONE
