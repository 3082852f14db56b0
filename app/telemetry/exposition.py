"""What a scrape is answered with: the metrics of this process and, in a fleet, of its siblings.

Processes that share a port share a scrape as well: whichever of them the kernel gives it to asks the others, over
sockets in a directory that only they can enter, and shows each under a label `process` of its own. When one of them is
started anew, its counters start from 0 again: Prometheus sees that in a series of its own, and not in a sum.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson
from prometheus_client import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from app.telemetry.catalogue import PROCESS_UP
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

MEDIA_TYPE = "text/plain; version=0.0.4"

PATIENCE_S = 2.0
"""How long a sibling may take; a scrape has ten seconds by default."""


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of a process among those that share its port.

    Attributes:
        directory: Where each listens for the others; empty when there could be none.
        number: From 0.
        count: How many there are.
    """

    directory: str
    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`.

        Raises:
            ValueError: it is not.
        """
        directory, number, count = text.rsplit(":", 2)
        return cls(directory, int(number), int(count))

    def __str__(self) -> str:
        return f"{self.directory}:{self.number}:{self.count}"

    def socket(self, number: int) -> Path:
        """Where the process of that number listens."""
        return Path(self.directory) / f"{number}.sock"


class Exposition:
    """Answers the scrapes of one process.

    Args:
        metrics: Its own.
        seat: Its place in a fleet, or None when it is alone.
    """

    def __init__(self, metrics: Metrics, seat: Seat | None = None) -> None:
        self._metrics = metrics
        self._seat = seat

    async def text(self, shared: Iterable[Metric] = ()) -> bytes:
        """The answer in Prometheus' text format.

        Args:
            shared: What is the same for all processes; it gets no label.
        """
        told = [await asyncio.to_thread(self._tell)]
        if self._seat is not None:
            told += await self._ask_siblings(self._seat)
        return await asyncio.to_thread(_render, told, list(shared))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Answer siblings while the context is open."""
        seat = self._seat
        if seat is None or not seat.directory:
            yield
            return
        try:
            listener = await asyncio.to_thread(_listen, seat.socket(seat.number))
            server = await asyncio.start_unix_server(self._answer, sock=listener)
        except OSError as error:
            logger.warning("Siblings cannot ask this process for its metrics: %s", error)
            yield
            return
        async with server:
            yield

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(orjson.dumps(await asyncio.to_thread(self._tell)))
            await _close(writer)
        except ConnectionError:
            logger.debug("A sibling did not wait for the answer")

    def _tell(self) -> list[dict[str, Any]]:
        """All families of this process as JSON values; to be called in a thread, since it reads files of /proc."""
        label = {} if self._seat is None else {"process": str(self._seat.number)}
        return [
            {
                "name": family.name,
                "type": family.type,
                "help": family.documentation,
                "samples": [(sample.name, {**label, **sample.labels}, sample.value) for sample in family.samples],
            }
            for family in self._metrics.registry.collect()
        ]

    async def _ask_siblings(self, seat: Seat) -> list[list[dict[str, Any]]]:
        others = [number for number in range(seat.count) if number != seat.number]
        told = await asyncio.gather(*(_ask(seat.socket(number)) for number in others))
        up = GaugeMetricFamily(PROCESS_UP.name, PROCESS_UP.meaning, labels=PROCESS_UP.labels)
        up.add_metric([str(seat.number)], 1)
        for number, answer in zip(others, told, strict=True):
            up.add_metric([str(number)], 0 if answer is None else 1)
        samples = [(sample.name, sample.labels, sample.value) for sample in up.samples]
        family = {"name": up.name, "type": up.type, "help": up.documentation, "samples": samples}
        return [[family], *(answer for answer in told if answer is not None)]


def _listen(path: Path) -> socket.socket:
    """A socket at the path, in the place of one that a killed process has left behind."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    return listener


async def _ask(path: Path) -> list[dict[str, Any]] | None:
    """What a sibling tells, or None when it does not answer: it is starting, has ended, or its loop is blocked."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                told: list[dict[str, Any]] = orjson.loads(await reader.read())
            finally:
                await _close(writer)
    except (OSError, TimeoutError, orjson.JSONDecodeError) as error:
        logger.debug("A sibling does not tell its metrics: %r", error)
        return None
    return told


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close once everything is sent."""
    writer.close()
    await writer.wait_closed()


class _Families:
    """What `generate_latest` takes: families to render."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _render(told: Iterable[Iterable[Mapping[str, Any]]], shared: Iterable[Metric]) -> bytes:
    """One family once, with the samples of all who have it, as the format wants it."""
    families: dict[str, Metric] = {}
    for family in (family for process in told for family in process):
        name = family["name"]
        if name not in families:
            families[name] = Metric(name, family["help"], family["type"])
        for sample, labels, value in family["samples"]:
            families[name].add_sample(sample, labels, float("nan") if value is None else value)
    return generate_latest(_Families([*families.values(), *shared]))
