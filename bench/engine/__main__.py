"""`python -m bench.engine`: measure, print the report, and write its page unless the run was a quick one."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from redis.asyncio import Redis

from app.embedded.servers import EmbeddedError
from app.queue.connect import open_redis
from bench.engine import plan
from bench.engine.claims import measure_claims
from bench.engine.drain import Drains, Setup
from bench.engine.encoding import measure_encoding
from bench.engine.path import measure_path
from bench.engine.pickup import measure_pickup
from bench.engine.plan import Plan, Results
from bench.engine.report import VARIANTS, page
from bench.engine.systems import ARQ_DEFAULT, ARQ_TUNED, ARQIVE, ARQIVE_DEFAULT, Feeds, open_feeds
from bench.interruptible import interruptible, tell
from bench.machine import describe
from bench.servers import UnusableServerError, open_servers

PAGE = Path(__file__).resolve().parents[2] / "docs/performance-engine.md"


def main(arguments: Sequence[str]) -> int:
    """Run; the exit code is 0 whether or not the targets are met, and 2 when nothing could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute; figures are rough and no page is written")
    parser.add_argument("--output", type=Path, help=f"where to write the page ({PAGE.name}, if not quick)")
    given = parser.parse_args(arguments)
    command = "make bench-engine" + (" ARGS=--quick" if given.quick else "")
    try:
        results = uvloop.run(measure(plan.QUICK if given.quick else plan.FULL, command))
    except (UnusableServerError, EmbeddedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    text = page(results)
    print(text)
    output = given.output or (None if given.quick else PAGE)
    if output is not None:
        output.write_text(text, encoding="utf-8")
        tell(f"{output} written")
    tell(f"took {results.seconds:.0f} s")
    return 0


async def measure(sizes: Plan, command: str) -> Results:
    """Everything, one after another."""
    started = time.monotonic()
    async with (
        open_servers() as servers,
        open_feeds(servers.redis_url) as feeds,
        Redis.from_url(servers.redis_url) as redis,
    ):
        machine = await describe(servers)
        pickups = {}
        for system in (ARQIVE_DEFAULT, ARQ_TUNED, ARQ_DEFAULT):
            tell(f"pickup and rest: {system.label}")
            pickups[system] = await measure_pickup(
                system, feeds, redis, servers.redis_url, jobs=sizes.pickups, idle_s=sizes.idle_s
            )
        drains = Drains(servers.redis_url, feeds, redis, seconds=sizes.drain_s)
        await _drain_all(drains, feeds, sizes)
        await redis.flushdb()
        tell("claims")
        async with open_redis(servers.redis_url) as arq_redis:
            claims = await measure_claims(arq_redis, rounds=sizes.claim_rounds, deferred=sizes.deferred)
            encoding = await measure_encoding(arq_redis, rounds=sizes.encodings)
        await redis.flushdb()
        tell("the whole path")
        path = await measure_path(servers, redis, tasks=sizes.path_tasks, idle_s=sizes.idle_s)
    return Results(
        machine=machine,
        command=command,
        workers=sizes.workers,
        drains=drains.summary(),
        deferred=sizes.deferred,
        pickups=pickups,
        claims=claims,
        encoding=encoding,
        path=path,
        seconds=time.monotonic() - started,
    )


async def _drain_all(drains: Drains, feeds: Feeds, sizes: Plan) -> None:
    """Each system in turn in every round, so that a disturbance meets them all alike."""
    for deferred in (0, sizes.deferred):
        for system in (ARQIVE, ARQ_TUNED):
            await feeds.of(system).preload(deferred, deferred=True)
        for number in range(sizes.rounds):
            for workers in sizes.workers:
                for system in (ARQIVE, ARQ_TUNED, *(sizes.once if number == 0 else ())):
                    await drains.run(Setup(system, workers, deferred), tell)
            if deferred == 0:
                for system in VARIANTS:
                    await drains.run(Setup(system, 1, 0), tell)


if __name__ == "__main__":
    sys.exit(interruptible(main))
