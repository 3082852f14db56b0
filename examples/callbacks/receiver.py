"""A service that is told how tasks ended: it believes only what is signed, and takes each message in once.

It needs CALLBACK_SECRETS, the same as Arqive has, and listens on port 8090; PORT changes that. What it took in is in
the SQLite file that DATABASE names, by default only in memory.
"""

import asyncio
import json
import os
import sqlite3
import sys
from contextlib import closing
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

# A result is at most 256 KiB in a callback; the rest of the message is small.
MAX_BYTES = 1_000_000


class Inbox:
    """What came of which task.

    The same message may come twice: your answer got lost, or a worker was killed. So its id is kept with what it did,
    in one transaction: either both are there, or neither.
    """

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("CREATE TABLE IF NOT EXISTS messages (id TEXT PRIMARY KEY)")
        self._connection.execute("CREATE TABLE IF NOT EXISTS ends (task TEXT, status TEXT, result TEXT)")
        self._one_at_a_time = asyncio.Lock()

    async def take(self, message_id: str, message: dict[str, Any]) -> bool:
        """Whether the message was new; only then is anything done."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._take, message_id, message["data"])

    def _take(self, message_id: str, task: dict[str, Any]) -> bool:
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("INSERT OR IGNORE INTO messages VALUES (?)", [message_id]).rowcount:
                return False
            end = (task["id"], task["status"], json.dumps(task["result"]))
            connection.execute("INSERT INTO ends VALUES (?, ?, ?)", end)  # stands for what your service does with it
            return True

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


INBOX = web.AppKey("inbox", Inbox)
SECRETS = web.AppKey("secrets", list[Webhook])


async def receive(request: web.Request) -> web.Response:
    """POST /hook: verify the body as it came, take it in, answer fast."""
    body = await request.read()
    headers = {name.lower(): value for name, value in request.headers.items()}
    message = verified(request.app[SECRETS], body, headers)
    if message is None:
        return web.Response(status=401, text="not signed with my secret, or too long ago\n")
    is_new = await request.app[INBOX].take(headers["webhook-id"], message)
    task = message["data"]
    print(message["type"], task["id"], task["result"] if is_new else "(again)", flush=True)
    return web.Response(status=204)  # also for what came before, or it would come again


def verified(secrets: list[Webhook], body: bytes, headers: dict[str, str]) -> dict[str, Any] | None:
    """The message where one of the secrets has signed it; more than one while a secret is being changed."""
    for secret in secrets:
        try:
            message: dict[str, Any] = secret.verify(body, headers)
        except WebhookVerificationError:
            continue
        return message
    return None


def build(secrets: str, database: str = ":memory:") -> web.Application:
    """The application; `secrets` are as in CALLBACK_SECRETS."""

    async def keep_inbox(app: web.Application) -> Any:
        with closing(Inbox(database)) as app[INBOX]:
            yield

    app = web.Application(client_max_size=MAX_BYTES)
    app[SECRETS] = [Webhook(secret.strip()) for secret in secrets.split(",")]
    app.router.add_post("/hook", receive)
    app.cleanup_ctx.append(keep_inbox)
    return app


if __name__ == "__main__":
    if not os.environ.get("CALLBACK_SECRETS"):
        sys.exit("CALLBACK_SECRETS is not set: give it what Arqive has")
    application = build(os.environ["CALLBACK_SECRETS"], os.environ.get("DATABASE", ":memory:"))
    web.run_app(application, host="127.0.0.1", port=int(os.environ.get("PORT", "8090")))
