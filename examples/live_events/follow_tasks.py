"""Submits three tasks and shows what happens to each until it has ended, with Arqive's client.

It talks to http://localhost:4000; ARQIVE_URL and ARQIVE_API_KEY change that.
"""

import asyncio
import os
import sys

from app.client import Client, RequestFailed, Task


async def follow(client: Client, task: Task) -> None:
    """Print a line for each change; a connection that breaks in between is the client's business."""
    async for event in client.follow(task.id):
        if event.task is None:
            print(f"{event.task_id}  is no longer kept")
        elif event.name == "progress" and event.task.progress is not None:
            print(f"{event.task_id}  {event.task.progress.value:4.0%}  {event.task.progress.message}")
        else:
            print(f"{event.task_id}  {event.task.status}")


async def main() -> None:
    """Submit and follow."""
    url = os.environ.get("ARQIVE_URL", "http://localhost:4000")
    async with Client(url, key=os.environ.get("ARQIVE_API_KEY")) as client:
        tasks = [await client.submit("album.scan", {"pictures": pictures}) for pictures in (8, 16, 24)]
        await asyncio.gather(*(follow(client, task) for task in tasks))
        ended = [await client.get(task.id) for task in tasks]
        print("results:", *(task.result for task in ended))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except RequestFailed as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(130)
