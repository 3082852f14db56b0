"""Submits what schedules ask for: each slot one task, in whichever process."""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId
from pydantic import ValidationError

from app.core import limits
from app.core.cancellation import cancel_is_due
from app.core.clock import to_ms, utc_now
from app.core.errors import Invalid, StoreRefused, StoreUnavailable
from app.core.faults import FaultPoint, reach
from app.core.field_errors import field_errors
from app.core.slots import CatchUp, count_missed, due_slots
from app.core.task_type import TaskTypes
from app.core.text import storable
from app.schedule_models import ScheduledTask
from app.services.accept import Acceptor
from app.services.submit import new_document
from app.services.timing import timing_of
from app.store.documents import TaskDocument
from app.store.duties import DutyStore
from app.store.key_holders import Holder
from app.store.mongo import Mongo
from app.store.schedules import ScheduleDocument, ScheduleErrorDocument, ScheduleStore, Taking
from app.telemetry.catalogue import Role, SlotOutcome
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

RESTART_PAUSE_S = 1.0
"""After MongoDB was away."""

LOOK = timedelta(seconds=1)
"""How often the process that has the duty looks: a schedule that was just put may be due before all others."""

PAGE = 200
"""Schedules that are worked on at a time."""

INSERT = 500
"""Tasks in one insert."""

DUTY_TIME = timedelta(seconds=8)
"""How long a process that died keeps the duty."""

RENEW_S = 4.0
"""How often the duty is taken again, and asked for by those who do not have it."""

TAKE_OVER = timedelta(seconds=10)
"""When slots that somebody took, and that are still not reported as submitted, are anybody's."""

PATIENCE_S = 5.0
"""Who took slots and was held up for longer leaves them to be taken over."""

REFUSED_S = 5.0
"""How long a schedule whose task cannot be submitted here is left alone here."""

STRANDED = timedelta(seconds=15)
"""A schedule that is due for longer than this, of a type that is not known here, is not known elsewhere either."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of one schedule, the tasks of the slots that are taken, and how many were missed for good."""

    taking: Taking
    tasks: tuple[TaskDocument, ...]
    missed: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A schedule whose task cannot be submitted, and why."""

    document: ScheduleDocument
    code: str
    message: str


class Scheduler:
    """Looks after the schedules, in one process at a time of all that know the same task types.

    A slot is submitted in three writes. The first, `take`, is conditional on the revision in which the schedule was
    read: it moves `next_run_at` on and notes the slot as taken, so of all who try one gets it, and none when the
    schedule was changed or deleted meanwhile. The second inserts the task, whose id follows from the slot. The third,
    `finish`, removes the note. Who dies between the first and the third leaves the note behind; after `TAKE_OVER`
    somebody else inserts the same task with the same id, which changes nothing if it is there.

    Args:
        mongo: Where the schedules are.
        acceptor: Takes the tasks in.
        types: The types that are known here; schedules of other types are left to those who know them.
        holder: A name for this process.
        metrics: Counts slots.
    """

    def __init__(
        self, mongo: Mongo, acceptor: Acceptor, types: TaskTypes, *, holder: str, metrics: Metrics | None = None
    ) -> None:
        self._schedules = ScheduleStore(mongo)
        self._duties = DutyStore(mongo)
        self._acceptor = acceptor
        self._types = types
        self._holder = holder
        self._metrics = metrics or Metrics(Role.WEB)
        names = "\n".join(sorted(types))
        self._duty = f"schedules:{hashlib.sha256(names.encode()).hexdigest()[:16]}"
        self._clock = asyncio.get_running_loop().time
        self._renew_at = 0.0
        self._refused: dict[str, float] = {}

    async def run(self) -> None:
        """Submit slots when they are due, until cancelled.

        Raises:
            StoreUnavailable: MongoDB cannot serve; calling it again goes on where it was.
        """
        while not cancel_is_due():
            pause_s = await self.run_once()
            await asyncio.sleep(pause_s)

    async def run_once(self) -> float:
        """Submit what is due; returns after how many seconds there may be something to do again.

        Raises:
            StoreUnavailable: MongoDB cannot serve.
        """
        while await self._has_duty():
            now = utc_now()
            page = await self._schedules.due(
                until=now + LOOK, types=self._types, without=self._refused_lately(), limit=PAGE
            )
            due = [document for document in page if (document["due_at"] or now) <= now]
            if not due:
                soonest = min((document["due_at"] or now for document in page), default=now + LOOK)
                return (soonest - now).total_seconds()
            await self._work_on(due, now)
        return RENEW_S

    async def give_up(self) -> None:
        """Let another process take over at once; without MongoDB it has to wait until the duty lapses."""
        try:
            await self._duties.give_up(self._duty, self._holder)
        except StoreUnavailable as error:
            logger.warning("Could not give up the schedules: %s", error)

    async def _has_duty(self) -> bool:
        if self._clock() < self._renew_at:
            return True
        now = utc_now()
        if not await self._duties.take(self._duty, self._holder, now=now, until=now + DUTY_TIME):
            return False
        # After a process was held up this is over at once, and the duty is asked for before anything else is done.
        self._renew_at = self._clock() + RENEW_S
        stranded = await self._schedules.note_stranded(
            before=now - STRANDED,
            types=self._types,
            error=_error("unknown_type", "no process that is running knows the type of its task", now),
        )
        if stranded:
            logger.warning("%d schedules are late: nobody knows the type of their task", stranded)
        return True

    def _refused_lately(self) -> list[str]:
        now = self._clock()
        self._refused = {name: until for name, until in self._refused.items() if until > now}
        return list(self._refused)

    async def _work_on(self, due: Sequence[ScheduleDocument], now: datetime) -> None:
        # In a thread: it reads the files of time zones, and dates that come seldom take a while to find.
        drawn_up = await asyncio.to_thread(lambda: [self._plan(document, now) for document in due])
        for refusal in drawn_up:
            if isinstance(refusal, Refusal):
                await self._note(refusal, revision=refusal.document["revision"])
        plans = [plan for plan in drawn_up if isinstance(plan, Plan)]
        if plans:
            await self._carry_out(plans, {document["_id"]: document for document in due})

    def _plan(self, document: ScheduleDocument, now: datetime) -> Plan | Refusal:
        try:
            taken, first, missed = document["taken"], document["next_run_at"], 0
            if taken is not None:
                slots, at, following = tuple(taken["slots"]), taken["at"], first
            elif first is not None:
                catch_up = CatchUp(document["catch_up"])
                timing = timing_of(document)
                due = due_slots(timing, first, now=now, catch_up=catch_up)
                slots, at, following = due.slots, now, due.next_slot
                missed = count_missed(timing, first, before=min(due.slots, default=now))
            else:
                slots, at, following = (), now, None
            tasks = self._tasks_of(document, slots, at) if slots else ()
        except Exception as error:  # the validators of a payload are a user's code, which may raise anything
            if not isinstance(error, ValueError | Invalid):
                logger.exception("The schedule %s cannot be read", document["_id"])
            return Refusal(document, Invalid.code, str(error) or type(error).__name__)
        last = str(tasks[-1]["_id"]) if tasks else document["last_task_id"]
        return Plan(Taking(document["_id"], document["revision"], slots, at, following, last), tasks, missed)

    def _tasks_of(
        self, document: ScheduleDocument, slots: Sequence[datetime], at: datetime
    ) -> tuple[TaskDocument, ...]:
        try:
            submission = ScheduledTask.model_validate(document["task"]).to_submission()
        except ValidationError as error:  # it was accepted by another version
            raise Invalid(field_errors(error, "task")) from error
        tasks = []
        for slot in slots:
            task = new_document(submission, self._types, utc_now())
            task["_id"] = _task_id(document, slot, at)
            task["created_at"] = at
            task["schedule"] = {"name": document["_id"], "slot_at": slot}
            tasks.append(task)
        return tuple(tasks)

    async def _carry_out(self, plans: Sequence[Plan], documents: Mapping[str, ScheduleDocument]) -> None:
        token, begun = secrets.token_urlsafe(12), self._clock()
        until = utc_now() + TAKE_OVER
        won = await self._schedules.take([plan.taking for plan in plans], token=token, until=until)
        await reach(FaultPoint.AFTER_TAKE)
        missed = (plan.missed for plan in plans if not plan.tasks or plan.taking.name in won)
        self._metrics.slots_left_out(SlotOutcome.MISSED, sum(missed))
        tasks = [(plan.taking.name, task) for plan in plans if plan.taking.name in won for task in plan.tasks]
        left: set[str] = set()
        for start in range(0, len(tasks), INSERT):
            some = tasks[start : start + INSERT]
            if self._clock() - begun > PATIENCE_S:
                left |= {name for name, _ in some}
                continue
            errors = await self._submit(some, token)
            left |= errors.keys()
            for name, error in errors.items():
                refusal = Refusal(documents[name], StoreRefused.code, str(error))
                await self._note(refusal, revision=documents[name]["revision"] + 1)
        if left:
            logger.warning("The slots of %d schedules are left to be taken over", len(left))
        if won - left:
            await self._schedules.finish(won - left, token=token)

    async def _submit(self, tasks: Sequence[tuple[str, TaskDocument]], token: str) -> dict[str, StoreRefused]:
        """Keep and queue tasks of schedules; which schedules have one that MongoDB does not take."""
        refused: dict[str, StoreRefused] = {}
        instead: dict[ObjectId, Holder] = {}
        try:
            instead.update(await self._acceptor.accept([task for _, task in tasks]))
        except StoreRefused:
            for name, task in tasks:
                try:
                    instead.update(await self._acceptor.accept([task]))
                except StoreRefused as error:
                    refused[name] = error
        await reach(FaultPoint.AFTER_SLOTS)
        kept_at = utc_now()
        for name, task in tasks:
            slot = task["schedule"]["slot_at"]
            if task["_id"] in instead:
                self._metrics.slots_left_out(SlotOutcome.EXISTING)
                holder = instead[task["_id"]].document
                await self._schedules.note_task(name, str(holder["_id"]), token=token)
            elif slot is not None and name not in refused:
                self._metrics.slot_submitted(slot, kept_at)
        return refused

    async def _note(self, refusal: Refusal, *, revision: int) -> None:
        name, known = refusal.document["_id"], refusal.document["last_error"]
        self._refused[name] = self._clock() + REFUSED_S
        error = _error(refusal.code, refusal.message, utc_now())
        if known is None or (known["code"], known["message"]) != (error["code"], error["message"]):
            logger.warning("The schedule %s cannot submit its task: %s", name, error["message"])
            await self._schedules.note_error(name, error, revision=revision)


def _error(code: str, message: str, at: datetime) -> ScheduleErrorDocument:
    return {"code": code, "message": storable(message, limits.MAX_ERROR_MESSAGE), "at": at}


def _task_id(document: ScheduleDocument, slot: datetime, at: datetime) -> ObjectId:
    """The id of a slot's task: whoever submits the slot gets the same.

    Its seconds are those of `at`, which is kept with the slots that were taken, and is the task's `created_at` too:
    lists are in the order of the ids.
    """
    slot_of = f"{document['_id']}\n{document['creation']}\n{to_ms(slot)}"
    return ObjectId(int(at.timestamp()).to_bytes(4, "big") + hashlib.sha256(slot_of.encode()).digest()[:8])
