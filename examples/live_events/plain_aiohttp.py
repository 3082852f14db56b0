"""Shows the changes of all tasks, or with a task's id those of that one, with nothing of Arqive but HTTP.

What `EventSource` does in a browser is done here by hand: read lines, remember the last id, come back after a break.
It talks to http://localhost:4000; ARQIVE_URL and ARQIVE_API_KEY change that.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

import aiohttp

# The service sends a comment every 15 seconds: after three times that without a byte the connection is lost.
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=45)

LONGEST_LINE = 16 * 1024 * 1024
"""The last event of a task's own stream has its result, in one line; aiohttp takes 128 KiB unless told otherwise."""

ENDED = {"completed", "failed", "cancelled"}


class Stream:
    """One stream of events, across breaks of the connection.

    Attributes:
        last_id: Of the last event. Keep it, and a later start of your program goes on after it.
        pause_s: How long the service asks to wait before coming back.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, last_id: str = "") -> None:
        self.session, self.url, self.last_id = session, url, last_id
        self.pause_s = 2.0

    async def events(self) -> AsyncGenerator[tuple[str, str], None]:
        """Name and data of each event; ends where the service says that there is no more to come (204)."""
        while True:
            headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
            try:
                async with self.session.get(self.url, headers=headers, timeout=TIMEOUT) as response:
                    if response.status == 204:
                        return
                    response.raise_for_status()
                    async for event in self._read(response):
                        yield event
            except aiohttp.ClientResponseError as error:
                if error.status not in {429, 502, 503, 504}:
                    raise  # 401, 404, 422: coming back would not help
            except (aiohttp.ClientError, TimeoutError) as error:
                print(f"the connection broke: {error!r}", file=sys.stderr)
            await asyncio.sleep(self.pause_s)

    async def _read(self, response: aiohttp.ClientResponse) -> AsyncGenerator[tuple[str, str], None]:
        name, data, event_id = "", "", self.last_id
        async for raw in response.content:
            field, _, value = raw.decode().rstrip("\r\n").partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data = value
            elif field == "id":
                event_id = value
            elif field == "retry":
                self.pause_s = int(value) / 1000
            elif not raw.strip():  # an empty line ends an event; what is cut off before that comes again
                self.last_id = event_id
                if data:
                    yield name, data
                name, data = "", ""


async def main(task_id: str) -> None:
    """Print a line for each change."""
    url = os.environ.get("ARQIVE_URL", "http://localhost:4000").rstrip("/")
    key = os.environ.get("ARQIVE_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(headers=headers, read_bufsize=LONGEST_LINE // 2) as session:
        stream = Stream(session, f"{url}/tasks/{task_id}/events" if task_id else f"{url}/events")
        async with aclosing(stream.events()) as events:
            async for name, data in events:
                task = json.loads(data)
                news = f"{task['progress']['value']:.0%}" if name == "progress" else task.get("status", "")
                print(task["id"], name, news, flush=True)
                if task_id and (name == "deleted" or task["status"] in ENDED):
                    return  # else it would come back, and be told 204


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else ""))
    except aiohttp.ClientResponseError as error:
        sys.exit(f"{error.request_info.url} answered {error.status}")
    except KeyboardInterrupt:
        sys.exit(130)
