"""docs/performance.md: what was measured, on what, and how to read it."""

from collections.abc import Iterable, Sequence

from bench.service.bars import bars
from bench.service.costs import cost, memory
from bench.service.results import Results
from bench.service.sections import accept, bulk, drain, embedded, latency, queue, stored
from bench.tables import table

INTRODUCTION = (
    "Arqive beside what people write with the same parts: aiohttp, stock arq and Motor with one write a step, as they "
    "come and tuned; and Express, BullMQ and Mongoose in Node. One run on one machine, each system in turn on the same "
    "servers in every round; the figures are medians of {rounds}. The ratios say more than the absolute figures, which "
    "are this machine's: its {cores} are shared by web, worker, Redis, the MongoDB-wire server and the load generator. "
    "Where another is ahead, its row says so."
)


def page(results: Results) -> str:
    """The whole page as Markdown."""
    parts = [
        "# Performance",
        "<!-- Written by `make bench`: run that again rather than editing this. -->",
        INTRODUCTION.format(rounds=_rounds(results.plan.rounds), cores=_cores(results)),
        f"```sh\n{results.command}\n```",
        table(["", ""], results.machine),
        *_targets(results),
        *accept(results),
        *bulk(results),
        *drain(results),
        *cost(results),
        *memory(results),
        *latency(results),
        *stored(results),
        *embedded(results),
        *queue(results),
        "The engine alone beside stock arq, in more detail: [performance of the engine](performance-engine.md).",
        f"All of this took {results.seconds / 60:.0f} minutes.",
    ]
    return "\n\n".join(parts) + "\n"


def _rounds(number: int) -> str:
    return "one round" if number == 1 else f"{number} rounds"


def _cores(results: Results) -> str:
    return next((part.strip() for part in _processor(results.machine) if part.strip().endswith("cores")), "cores")


def _processor(machine: Sequence[tuple[str, str]]) -> list[str]:
    return dict(machine).get("processor", "").split(",")


def _targets(results: Results) -> Iterable[str]:
    rows = [(bar.what, bar.found, "met" if bar.met else "**not met**") for bar in bars(results)]
    yield "## Targets"
    yield "What the service was built to reach. No test asserts these, since they depend on the machine."
    yield table(["target", "found", ""], rows)
