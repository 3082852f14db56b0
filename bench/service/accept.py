"""How fast tasks are accepted, one by one and a thousand at a time, while nothing else happens."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.load.__main__ import Options
from bench.meter import Cost
from bench.rounds import Rounds
from bench.service.plan import Plan
from bench.service.stacks import ARQIVE, Stack, Work
from bench.service.trial import Lab, Load, Trial, started

BULK = 1000
BULK_CLIENTS = (1, 4)


@dataclass(frozen=True, slots=True)
class Accepted:
    """One load and what it cost."""

    load: Load
    cost: Cost


@dataclass(frozen=True, slots=True)
class AcceptKey:
    """A stack and the clients that it serves."""

    stack: Stack
    clients: int


Accepts = Rounds[AcceptKey, Accepted]


async def measure_accept(
    lab: Lab, plan: Plan, stacks: tuple[Stack, ...], accepts: Accepts, tell: Callable[[str], None]
) -> None:
    """One round: each stack in turn, a web process without workers."""
    for stack in stacks:
        missing = stack.why_not(tell)
        if missing:
            accepts.failed.update({AcceptKey(stack, clients): missing for clients in plan.clients})
            continue

        async def measure(stack: Stack = stack) -> None:
            async with started(stack, lab, workers=0) as trial:
                for clients in plan.clients:
                    found = await _metered(trial, lab, Options(_url(trial), Work.NOTHING.value, clients, plan.accept_s))
                    accepts.found[AcceptKey(stack, clients)].append(found)
                    tell(f"accept: {stack.label}, {clients} clients: {found.load.rate:,.0f}/s")

        whole: Rounds[Stack, None] = Rounds()
        await whole.add(stack, measure, tell)
        for reason in whole.failed.values():
            accepts.failed.update({AcceptKey(stack, clients): reason for clients in plan.clients})


async def measure_bulk(lab: Lab, plan: Plan, bulks: Rounds[int, Accepted], tell: Callable[[str], None]) -> None:
    """One round of `POST /tasks/bulk`, a thousand tasks a request."""
    body = f"[{','.join([Work.NOTHING.value] * BULK)}]"

    async def measure(clients: int) -> Accepted:
        async with started(ARQIVE, lab, workers=0) as trial:
            return await _metered(trial, lab, Options(f"{trial.url}/tasks/bulk", body, clients, plan.accept_s))

    for clients in BULK_CLIENTS:
        found = await bulks.add(clients, partial(measure, clients), tell)
        if found:
            tell(f"bulk: {clients} clients: {found.load.rate * BULK:,.0f} tasks/s")


async def _metered(trial: Trial, lab: Lab, options: Options) -> Accepted:
    before = await lab.meter.read(trial.roles)
    load = await trial.load(options)
    return Accepted(load, (await lab.meter.read(trial.roles)).since(before))


def _url(trial: Trial) -> str:
    return f"{trial.url}/tasks"
