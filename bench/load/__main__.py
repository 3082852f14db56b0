"""`python -m bench.load OPTIONS`: send a request again and again for a while and say what came of it, both as JSON."""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from statistics import median

import uvloop

from bench.figures import percentile
from bench.load.connection import Connection, connect, post


@dataclass(frozen=True, slots=True)
class Options:
    """What to send.

    Attributes:
        url: Where to POST.
        body: JSON.
        clients: Connections, each with one request at a time.
        seconds: How long to begin requests.
        rate: Requests a second that are begun whether or not the earlier ones are answered, as far as there are
            connections; 0 begins one whenever a connection is free.
        most: No more requests than this.
    """

    url: str
    body: str
    clients: int
    seconds: float
    rate: float = 0.0
    most: int = 10**9

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


@dataclass(slots=True)
class Totals:
    """What came of it.

    Attributes:
        answered: Requests with an answer of 2xx.
        refused: Requests with any other answer.
        seconds: From the first request until the last answer.
        latencies: Seconds of each request; with a rate from when it was due.
        cpu_s: CPU seconds that this process needed for it.
    """

    answered: int
    refused: int
    seconds: float
    latencies: list[float]
    cpu_s: float

    def to_json(self) -> str:
        """For the standard output."""
        return json.dumps(
            {
                "answered": self.answered,
                "refused": self.refused,
                "seconds": self.seconds,
                "cpu_s": self.cpu_s,
                "p50_ms": median(self.latencies) * 1000 if self.latencies else 0.0,
                "p99_ms": percentile(self.latencies, 0.99) * 1000 if self.latencies else 0.0,
            }
        )


async def main(options: Options) -> Totals:
    """Connect, send, and wait for what is under way."""
    raw = post(options.url, options.body.encode())
    connections = [await connect(options.url) for _ in range(options.clients)]
    totals = Totals(0, 0, 0.0, [], 0.0)
    cpu, started = time.process_time(), time.perf_counter()
    send = _send_at_rate if options.rate else _send_when_free
    await asyncio.gather(*(send(options, connection, raw, totals, started) for connection in connections))
    totals.seconds, totals.cpu_s = time.perf_counter() - started, time.process_time() - cpu
    for connection in connections:
        connection.close()
    return totals


async def _send_when_free(options: Options, connection: Connection, raw: bytes, totals: Totals, started: float) -> None:
    sent_at, end = time.perf_counter(), started + options.seconds
    while sent_at < end and totals.answered + totals.refused < options.most:
        await _send(connection, raw, totals, since=sent_at)
        sent_at = time.perf_counter()


async def _send_at_rate(options: Options, connection: Connection, raw: bytes, totals: Totals, started: float) -> None:
    """Whoever is free takes the next one that is due: the totals' own count says which that is."""
    while True:
        due = started + len(totals.latencies) / options.rate
        if due > started + options.seconds:
            return
        totals.latencies.append(0.0)
        number = len(totals.latencies) - 1
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await _send(connection, raw, totals, since=due, number=number)


async def _send(connection: Connection, raw: bytes, totals: Totals, *, since: float, number: int | None = None) -> None:
    status, _ = await connection.request(raw)
    took = time.perf_counter() - since
    if number is None:
        totals.latencies.append(took)
    else:
        totals.latencies[number] = took
    if 200 <= status < 300:
        totals.answered += 1
    else:
        totals.refused += 1


if __name__ == "__main__":
    print(uvloop.run(main(Options(**json.loads(sys.argv[1])))).to_json())
