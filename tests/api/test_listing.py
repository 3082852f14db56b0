"""GET /tasks: pages without gaps or repeats, each filter alone and together."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest

from app.api.tasks import read_cursor, write_cursor
from app.core.ids import TaskId
from tests.api.conftest import Api

ChangeTask = Callable[..., None]


async def _pages(api: Api, limit: int, after_each: Callable[[], Any] | None = None, query: str = "") -> list[list[str]]:
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = await api.get(f"/tasks?limit={limit}{query}" + (f"&cursor={cursor}" if cursor else ""))
        assert answer.status == 200
        pages.append([task["id"] for task in answer.json["items"]])
        cursor = answer.json["next_cursor"]
        if after_each is not None:
            await after_each()
    return pages


async def _submit_many(api: Api, count: int) -> list[str]:
    answer = await api.post("/tasks/bulk", [{"type": "echo"}] * count)
    return [task["id"] for task in answer.json["items"]]


@pytest.mark.parametrize("limit", [1, 4, 7, 12, 13, 500])
async def test_pages_have_every_task_once_newest_first(api: Api, limit: int) -> None:
    ids = await _submit_many(api, 12)
    pages = await _pages(api, limit)
    assert list(itertools.chain(*pages)) == ids[::-1]
    assert all(len(page) == limit for page in pages[:-1])
    assert pages[-1]  # a last page that is exactly full says that it is the last


async def test_pages_stay_whole_while_tasks_come_in(api: Api) -> None:
    ids = await _submit_many(api, 11)
    pages = await _pages(api, 3, after_each=lambda: _submit_many(api, 2))
    assert list(itertools.chain(*pages)) == ids[::-1]


async def test_pages_stay_whole_when_the_task_at_the_cursor_is_deleted(api: Api, change_task: ChangeTask) -> None:
    ids = await _submit_many(api, 4)
    first = await api.get("/tasks?limit=2")
    last_shown = first.json["items"][-1]
    change_task(last_shown, status="completed")
    assert (await api.call("DELETE", f"/tasks/{last_shown['id']}")).status == 204
    rest = await api.get(f"/tasks?limit=2&cursor={first.json['next_cursor']}")
    assert [task["id"] for task in rest.json["items"]] == ids[1::-1]


async def test_an_empty_list_is_one_empty_page(api: Api) -> None:
    assert (await api.get("/tasks")).json == {"items": [], "next_cursor": None}


async def test_a_page_has_fifty_tasks_unless_asked_otherwise(api: Api) -> None:
    await _submit_many(api, 51)
    answer = await api.get("/tasks")
    assert (len(answer.json["items"]), answer.json["next_cursor"] is None) == (50, False)


@pytest.fixture
async def names(api: Api, change_task: ChangeTask) -> dict[str, str]:
    """Four tasks that differ in everything a filter looks at; their names by id."""
    made = [
        ("a", {"type": "echo", "queue": "mail", "tags": ["red", "big"]}, "pending", 1),
        ("b", {"type": "echo", "queue": "default", "tags": ["red"]}, "failed", 2),
        ("c", {"type": "sleep", "queue": "mail", "tags": ["big"]}, "completed", 3),
        ("d", {"type": "sleep", "queue": "default"}, "failed", 4),
    ]
    names = {}
    now = datetime.now(UTC).replace(microsecond=0)
    for name, fields, status, second in made:
        task = await api.submit(**fields)  # type: ignore[arg-type]
        change_task(task, status=status, created_at=now.replace(second=0, minute=0) if second < 0 else now)
        names[task["id"]] = name
    return names


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ([], "dcba"),
        ([("status", "failed")], "db"),
        ([("status", "failed"), ("status", "pending")], "dba"),
        ([("status", "running")], ""),
        ([("type", "echo")], "ba"),
        ([("type", "unheard.of")], ""),
        ([("queue", "mail")], "ca"),
        ([("tag", "red")], "ba"),
        ([("tag", "big"), ("tag", "red")], "a"),
        ([("type", "sleep"), ("status", "failed")], "d"),
        ([("type", "echo"), ("queue", "default"), ("status", "failed"), ("tag", "red")], "b"),
        ([("queue", "mail"), ("status", "failed")], ""),
    ],
    ids=lambda value: urlencode(value) if isinstance(value, list) else value,
)
async def test_filters(api: Api, names: dict[str, str], query: list[tuple[str, str]], found: str) -> None:
    answer = await api.get("/tasks", params=query)
    assert "".join(names[task["id"]] for task in answer.json["items"]) == found


async def test_filters_hold_on_every_page(api: Api, names: dict[str, str]) -> None:
    pages = await _pages(api, 1, query="&tag=red&type=echo")
    assert [names[page[0]] for page in pages] == ["b", "a"]


async def test_created_bounds_take_the_start_and_leave_the_end(api: Api) -> None:
    tasks = [await api.submit() for _ in range(3)]
    moments = [task["created_at"] for task in tasks]
    assert len(set(moments)) == 3, "three requests within a millisecond"

    async def found(**bounds: str) -> list[int]:
        answer = await api.get("/tasks", params=bounds)
        return [[task["id"] for task in tasks].index(item["id"]) for item in answer.json["items"]]

    assert await found(created_after=moments[1]) == [2, 1]
    assert await found(created_before=moments[1]) == [0]
    assert await found(created_after=moments[1], created_before=moments[2]) == [1]
    assert await found(created_after=moments[2], created_before=moments[0]) == []
    east = datetime.fromisoformat(moments[1]).astimezone().isoformat()
    assert await found(created_after=east, status="pending", type="echo") == [2, 1]
    assert await found(created_after="1971-01-01T00:00:00Z", created_before="2099-01-01T00:00:00Z") == [2, 1, 0]


async def test_bounds_hold_on_every_page(api: Api) -> None:
    ids = await _submit_many(api, 5)
    bound = (await api.get(f"/tasks/{ids[0]}")).json["created_at"]
    later = [(await api.submit())["id"] for _ in range(2)]
    pages = await _pages(api, 2, query="&" + urlencode({"created_after": bound}))
    assert list(itertools.chain(*pages)) == [*later[::-1], *ids[::-1]]
    pages = await _pages(api, 2, query="&" + urlencode({"created_before": "2099-01-01T00:00:00Z"}))
    assert list(itertools.chain(*pages)) == [*later[::-1], *ids[::-1]]


@pytest.mark.parametrize(
    ("query", "bad"),
    [
        ("status=done", {"status[0]"}),
        ("status=", {"status[0]"}),
        ("type=", {"type"}),
        ("queue=a%20b", {"queue"}),
        ("tag=%00", {"tag[0]"}),
        ("&".join(f"tag=t{number}" for number in range(21)), {"tag"}),
        ("created_after=yesterday", {"created_after"}),
        ("created_after=2026-01-01", {"created_after"}),
        ("created_after=2026-01-01T00:00:00", {"created_after"}),
        ("created_before=0001-01-01T00:00:00%2B14:00", {"created_before"}),
        ("created_before=9999-12-31T23:59:59Z", {"created_before"}),
        ("created_after=1700000000", {"created_after"}),
        ("limit=0", {"limit"}),
        ("limit=501", {"limit"}),
        ("limit=ten", {"limit"}),
        ("limit=", {"limit"}),
        ("limit=9" + "9" * 5_000, {"limit"}),
        ("limit=1&limit=2", {"limit"}),
        ("cursor=", {"cursor"}),
        ("cursor=x", {"cursor"}),
        ("cursor=%C3%A4", {"cursor"}),
        ("cursor=AQAAAAAAAAAAAAAAAAAA", {"cursor"}),
        ("cursor=AgAAAAAAAAAAAAAAAA", {"cursor"}),
        ("colour=red", {"colour"}),
        ("limit=0&colour=red&status=done&type=%20", {"limit", "colour", "status[0]", "type"}),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
async def test_a_bad_query_is_refused(api: Api, query: str, bad: set[str]) -> None:
    answer = await api.get(f"/tasks?{query}")
    assert (answer.status, answer.code, answer.fields) == (422, "invalid", bad)


@pytest.mark.parametrize("path", ["/tasks?%ff=1", "/tasks?type=%ff", "/tasks?=", "/tasks?a=%", "/types?a=1"])
async def test_an_odd_query_is_refused_cleanly(api: Api, path: str) -> None:
    assert (await api.get(path)).code == "invalid"


def test_a_cursor_is_read_as_it_was_written() -> None:
    after = TaskId("0123456789abcdef01234567")
    assert read_cursor(write_cursor(after)) == after
    assert after not in write_cursor(after)
