"""A schedule from its first slot to its end: put it, see its runs, replace it, pause it, delete it.

It talks to http://localhost:4000; ARQIVE_URL and ARQIVE_API_KEY change that. It takes some five seconds.
"""

import asyncio
import os
import sys

from app.client import Client, RequestFailed, Schedule, Task

NAME = "example-sync"


async def runs(client: Client, schedule: Schedule, *, at_least: int) -> list[Task]:
    """What the schedule has submitted since it was put like this, once so many have completed."""
    while True:
        found = client.list(schedule=NAME, status="completed", created_after=schedule.updated_at)
        tasks = [task async for task in found if task.payload == schedule.task.payload]
        if len(tasks) >= at_least:
            return tasks
        await asyncio.sleep(0.2)


async def main() -> None:
    """Put, replace, pause, delete."""
    url = os.environ.get("ARQIVE_URL", "http://localhost:4000")
    async with Client(url, key=os.environ.get("ARQIVE_API_KEY")) as client:
        # A program may do this at every start: where the times are the same, nothing is counted anew.
        schedule = await client.schedules.put(NAME, {"type": "echo", "payload": {"source": "crm"}}, interval=1)
        print("put; next slot", schedule.next_run_at)
        for task in await runs(client, schedule, at_least=2):
            print("  slot", task.schedule and task.schedule.slot_at, task.id, task.status)

        # Another task at the same times, from the next slot on; a slot that is due stays due.
        schedule = await client.schedules.put(NAME, {"type": "echo", "payload": {"source": "shop"}}, interval=1)
        [task, *_] = await runs(client, schedule, at_least=1)
        print("replaced; the slots now submit", task.payload)

        schedule = await client.schedules.pause(NAME)
        print("paused; next slot", schedule.next_run_at)
        by_hand = await client.wait((await client.schedules.run(NAME)).id, timeout=30)
        print("run by hand while it is paused:", by_hand.status, by_hand.result)

        await client.schedules.delete(NAME)
        kept = [task async for task in client.list(schedule=NAME)]
        print("deleted; its", len(kept), "tasks stay")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except RequestFailed as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(130)
