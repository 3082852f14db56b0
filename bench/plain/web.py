"""Two routes: keep a task and enqueue it, and show it."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import uvloop
from aiohttp import web
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection

TASKS: web.AppKey[AsyncIOMotorCollection[Any]] = web.AppKey("tasks")
REDIS: web.AppKey[ArqRedis] = web.AppKey("redis")


async def create(request: web.Request) -> web.Response:
    body = await request.json()
    task = {
        "_id": ObjectId(),
        "type": body["type"],
        "payload": body.get("payload", {}),
        "status": "pending",
        "result": None,
        "created_at": datetime.now(UTC),
    }
    await request.app[TASKS].insert_one(task)
    await request.app[REDIS].enqueue_job("run_task", str(task["_id"]))
    return web.json_response(shown(task), status=201)


async def show(request: web.Request) -> web.Response:
    task = await request.app[TASKS].find_one({"_id": ObjectId(request.match_info["id"])})
    if task is None:
        raise web.HTTPNotFound
    return web.json_response(shown(task))


def shown(task: dict[str, Any]) -> dict[str, Any]:
    return {"id": str(task["_id"]), "type": task["type"], "status": task["status"], "result": task["result"]}


async def connections(app: web.Application) -> AsyncIterator[None]:
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(os.environ["MONGO_URL"])
    app[TASKS] = client[os.environ["MONGO_DATABASE"]].tasks
    app[REDIS] = await create_pool(
        RedisSettings.from_dsn(os.environ["REDIS_URL"]), default_queue_name=os.environ["QUEUE"]
    )
    yield
    await app[REDIS].aclose()
    client.close()


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(connections)
    app.router.add_post("/tasks", create)
    app.router.add_get("/tasks/{id}", show)
    loop = uvloop.new_event_loop() if "UVLOOP" in os.environ else None
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
