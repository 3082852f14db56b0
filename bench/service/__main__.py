"""`python -m bench.service`: measure, print the report, and write page and plots unless only a part was measured."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from pymongo import MongoClient
from redis.asyncio import Redis

from app.embedded.servers import EmbeddedError
from bench import mongo_server, node_packages
from bench.interruptible import interruptible, tell
from bench.machine import describe
from bench.meter import Meter
from bench.queue.measure import measure_queue
from bench.servers import Servers, UnusableServerError, open_servers
from bench.service import plan
from bench.service.accept import measure_accept, measure_bulk
from bench.service.ceiling import measure_ceiling
from bench.service.drain import DrainKey, measure_drain, setups
from bench.service.latency import measure_latency
from bench.service.pictures import pictures
from bench.service.plan import SECTIONS, Plan
from bench.service.report import page
from bench.service.results import OnServer, Results
from bench.service.stacks import ARQIVE, PLAIN_TUNED, STACKS, Work
from bench.service.stored import measure_stored
from bench.service.trial import Lab

PAGE = Path(__file__).resolve().parents[2] / "docs/performance.md"


def main(arguments: Sequence[str]) -> int:
    """Run; the exit code is 0 whether or not the targets are met, and 2 when nothing could be measured."""
    given = _parser().parse_args(arguments)
    sections = tuple(section for section in SECTIONS if not given.only or section in given.only)
    kind = given.mongo or mongo_server.FAST
    missing = mongo_server.why_not_fast(tell) if kind == mongo_server.FAST else ""
    if missing:
        tell(f"measuring on the embedded server: {missing}")
        kind = mongo_server.EMBEDDED
    chosen = [*(["--quick"] if given.quick else []), *(f"--only {section}" for section in given.only or [])]
    command = f'make bench ARGS="{" ".join(chosen)}"' if chosen else "make bench"
    try:
        results = uvloop.run(measure(plan.QUICK if given.quick else plan.FULL, sections, kind, command))
    except (UnusableServerError, EmbeddedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    text = page(results)
    print(text)
    output = given.output or (None if given.quick or given.only else PAGE)
    if output is not None:
        directory = output.with_name(PAGE.stem)
        directory.mkdir(exist_ok=True)
        for name, picture in pictures(results).items():
            (directory / f"{name}.svg").write_text(picture, encoding="utf-8")
        output.write_text(text, encoding="utf-8")
        tell(f"{output} written")
    tell(f"took {results.seconds:.0f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.service", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some three minutes; the figures are rough")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="measure this section; may be repeated")
    parser.add_argument(
        "--mongo", choices=mongo_server.KINDS, help="the MongoDB-wire server to start, where MONGO_URL names none"
    )
    parser.add_argument("--output", type=Path, help=f"where to write the page ({PAGE.name}, after a whole run)")
    return parser


async def measure(sizes: Plan, sections: tuple[str, ...], kind: str, command: str) -> Results:
    """All sections, one after another."""
    started = time.monotonic()
    async with open_servers(kind) as servers, Redis.from_url(servers.redis_url) as redis:
        machine = await describe(servers)
        if not node_packages.why_not(tell):
            machine.insert(-1, ("Node", node_packages.versions()))
        results = Results(machine, command, sizes, sections)
        with MongoClient[dict[str, Any]](servers.mongo_url) as mongo:
            await _measure_service(await _lab(servers, redis, mongo), results)
        if "queue" in sections:
            for _ in range(sizes.rounds):
                await measure_queue(
                    servers, redis, results.queue, jobs_s=sizes.jobs_s, pickups=sizes.pickups, tell=tell
                )
    if "embedded" in sections and servers.own_mongo and kind != mongo_server.EMBEDDED:
        await _measure_embedded(results)
    results.seconds = time.monotonic() - started
    return results


async def _lab(servers: Servers, redis: Redis, mongo: MongoClient[dict[str, Any]]) -> Lab:
    """The servers' process ids are theirs to tell, and mean something only on this machine."""
    pids = {}
    if "127.0.0.1" in servers.redis_url:
        pids["redis"] = int((await redis.info("server"))["process_id"])
    if "127.0.0.1" in servers.mongo_url:
        pids["mongo"] = int(mongo.admin.command("serverStatus")["pid"])
    return Lab(servers, redis, mongo, Meter(redis, mongo, pids))


async def _measure_service(lab: Lab, results: Results) -> None:
    """Every system in turn in every round, so that a disturbance meets them all alike."""
    sizes, main = results.plan, results.main
    main.name = lab.servers.mongo_name
    if "accept" in results.sections:
        results.ceiling = await measure_ceiling(lab.servers, sizes, tell)
    for number in range(sizes.rounds):
        tell(f"round {number + 1} of {sizes.rounds}")
        if "accept" in results.sections:
            await measure_accept(lab, sizes, STACKS, main.accepts, tell)
        if "bulk" in results.sections:
            await measure_bulk(lab, sizes, results.bulks, tell)
        if "drain" in results.sections:
            await measure_drain(lab, sizes, setups(sizes), main.drains, tell)
        if "latency" in results.sections:
            await measure_latency(lab, sizes, results.latencies, tell)
    if "stored" in results.sections:
        await measure_stored(lab, sizes, results.stored, tell)


async def _measure_embedded(results: Results) -> None:
    """The server that `make dev` starts: the same, with the two that are compared."""
    results.embedded = OnServer()
    async with open_servers(mongo_server.EMBEDDED) as servers, Redis.from_url(servers.redis_url) as redis:
        results.embedded.name = servers.mongo_name
        with MongoClient[dict[str, Any]](servers.mongo_url) as mongo:
            lab = await _lab(servers, redis, mongo)
            for _ in range(results.plan.rounds):
                stacks = (ARQIVE, PLAIN_TUNED)
                await measure_accept(lab, results.plan, stacks, results.embedded.accepts, tell)
                keys = [DrainKey(stack, 1, Work.NOTHING) for stack in stacks]
                await measure_drain(lab, results.plan, keys, results.embedded.drains, tell)


if __name__ == "__main__":
    sys.exit(interruptible(main))
