"""An arq worker that records each step of a task in MongoDB."""

import os
from typing import Any

from arq import run_worker
from arq.connections import RedisSettings
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient


async def run_task(ctx: dict[str, Any], task_id: str) -> None:
    tasks, which = ctx["tasks"], {"_id": ObjectId(task_id)}
    task = await tasks.find_one(which)
    await tasks.update_one(which, {"$set": {"status": "processing"}})
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


if __name__ == "__main__":
    run_worker(WorkerSettings)  # type: ignore[arg-type]
