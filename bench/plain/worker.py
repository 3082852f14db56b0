"""An arq worker that records each step of a task in MongoDB."""

import asyncio
import os
from typing import Any

import uvloop
from arq import run_worker
from arq.connections import RedisSettings
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient


async def run_task(ctx: dict[str, Any], task_id: str) -> None:
    tasks, which = ctx["tasks"], {"_id": ObjectId(task_id)}
    task = await tasks.find_one(which)
    await tasks.update_one(which, {"$set": {"status": "processing"}})
    if task["type"] == "sleep":
        await asyncio.sleep(task["payload"]["seconds"])
    result = task["payload"]
    await tasks.update_one(which, {"$set": {"status": "completed", "result": result}})


async def startup(ctx: dict[str, Any]) -> None:
    ctx["client"] = AsyncIOMotorClient(os.environ["MONGO_URL"])
    ctx["tasks"] = ctx["client"][os.environ["MONGO_DATABASE"]].tasks


async def shutdown(ctx: dict[str, Any]) -> None:
    ctx["client"].close()


class WorkerSettings:
    functions = (run_task,)
    on_startup = startup
    on_shutdown = shutdown
    redis_settings = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
    queue_name = os.environ.get("QUEUE", "arq:queue")
    max_jobs = int(os.environ.get("MAX_JOBS", "10"))
    poll_delay = float(os.environ.get("POLL_DELAY", "0.5"))
    keep_result = int(os.environ.get("KEEP_RESULT", "3600"))


if __name__ == "__main__":
    if "UVLOOP" in os.environ:
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    run_worker(WorkerSettings)  # type: ignore[arg-type]
