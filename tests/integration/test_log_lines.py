"""What web and worker processes write to their log while tasks go through them."""

import json
from pathlib import Path
from typing import Any

import aiohttp

from app.embedded.servers import free_port
from settings import Settings
from tests.processes import START_S, Process, started
from tests.waiting import wait_until


def lines(process: Process) -> list[dict[str, Any]]:
    """Every line is an object, or the test fails."""
    return [json.loads(line) for line in process.log.read_text().splitlines()]


async def test_each_line_says_what_it_is_about_and_none_tells_a_secret(settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    options = {"log_format": "json", "log_level": "DEBUG", "task_modules": "tests.logging_tasks"}
    with (
        started("web", settings, tmp_path, port=port, access_log=True, **options) as web,
        started("worker", settings, tmp_path, **options) as worker,
    ):
        await wait_until(lambda: web.logged('"event": "listening"'), START_S)
        tasks = []
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers={"X-Request-ID": "find-me"}) as session:
            for name in ("logging.async", "logging.thread", "logging.process"):
                body = {"type": name, "payload": {"secret": "hunter2"}}
                async with session.post("/tasks?", json=body) as response:
                    assert response.headers["X-Request-ID"] == "find-me"
                    tasks.append((await response.json())["id"])
                async with session.get(f"/tasks/{tasks[-1]}", params={"wait": 20}) as response:
                    assert (await response.json())["status"] in {"completed", "failed"}
            async with session.get("/tasks", params={"tag": "hunter2"}, headers={"X-Request-ID": "a b"}) as response:
                made = response.headers["X-Request-ID"]

        requests = [line for line in lines(web) if line.get("event") == "request"]
        assert [(line["method"], line["path"], line["status"], line["request_id"]) for line in requests] == [
            ("POST", "/tasks", 201, "find-me"),
            ("GET", f"/tasks/{tasks[0]}", 200, "find-me"),
            ("POST", "/tasks", 201, "find-me"),
            ("GET", f"/tasks/{tasks[1]}", 200, "find-me"),
            ("POST", "/tasks", 201, "find-me"),
            ("GET", f"/tasks/{tasks[2]}", 200, "find-me"),
            ("GET", "/tasks", 200, made),
        ]
        of_users = {line["message"]: line for line in lines(worker) if line["logger"] == "tests.logging_tasks"}
        assert of_users["from the loop"]["order"] == 17
        messages = ("from the loop", "from a thread", "from a process")
        names = ("logging.async", "logging.thread", "logging.process")
        for message, name, task_id in zip(messages, names, tasks, strict=True):
            line = of_users[message]
            assert (line["task_id"], line["type"], line["attempt"]) == (task_id, name, 1)
        [serving] = [line for line in lines(worker) if line.get("event") == "serving"]
        assert "task_id" not in serving
    for process in (web, worker):
        assert "hunter2" not in process.log.read_text()


async def test_a_password_does_not_reach_the_log_when_servers_are_away(settings: Settings, tmp_path: Path) -> None:
    away = {
        "mongo_url": "mongodb://shop:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=200",
        "redis_url": "redis://:hunter2@127.0.0.1:1/0",
        "log_level": "DEBUG",
    }
    with started("worker", settings, tmp_path, **away) as worker:
        await wait_until(lambda: worker.logged("Cannot claim") and worker.logged("MongoDB is not available"), START_S)
    assert "hunter2" not in worker.log.read_text()
