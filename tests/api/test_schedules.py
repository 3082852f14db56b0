"""/schedules: what is accepted and shown, and what becomes of a schedule that is put again, paused or resumed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest

from app.api.schedules import read_cursor, write_cursor
from app.core.clock import utc_now
from app.core.ids import ScheduleName
from settings import Settings
from tests.api.conftest import Answer, Api

MINUTE = timedelta(minutes=1)

ChangeSchedule = Callable[..., None]


@pytest.fixture
def change_schedule(mongo_client: pymongo.MongoClient[dict[str, Any]], settings: Settings) -> ChangeSchedule:
    """Writes fields of a schedule past the services."""

    def change(name: str, **fields: Any) -> None:
        changed = mongo_client[settings.mongo_database].schedules.update_one({"_id": name}, {"$set": fields})
        assert changed.matched_count == 1

    return change


async def _put(api: Api, name: str = "nightly", **fields: Any) -> Answer:
    body = {"task": {"type": "echo"}, **({} if "interval" in fields else {"cron": "0 3 * * *"}), **fields}
    return await api.call("PUT", f"/schedules/{name}", json=body)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_schedule_is_put_read_replaced_and_deleted(api: Api) -> None:
    task = {"type": "http.request", "payload": {"url": "https://example.com/"}, "queue": "mail", "tags": ["a"]}
    created = await _put(api, time_zone="Europe/Berlin", task=task)
    assert created.status == 201
    schedule = created.json
    assert (schedule["name"], schedule["cron"], schedule["time_zone"]) == ("nightly", "0 3 * * *", "Europe/Berlin")
    assert (schedule["interval"], schedule["paused"], schedule["catch_up"]) == (None, False, "one")
    assert {name: schedule["task"][name] for name in task} == task
    assert [schedule[f"last_{what}"] for what in ("run_at", "task_id", "error")] == [None] * 3
    next_run_at = _moment(schedule["next_run_at"])
    assert utc_now() < next_run_at <= utc_now() + timedelta(hours=25)
    assert next_run_at.hour in {1, 2}
    assert (await api.get("/schedules/nightly")).json == schedule
    replaced = await _put(api, cron="30 4 * * *", task={"type": "echo"})
    assert replaced.status == 200
    assert (replaced.json["time_zone"], replaced.json["task"]["type"]) == ("UTC", "echo")
    assert replaced.json["created_at"] == schedule["created_at"]
    assert _moment(replaced.json["next_run_at"]).strftime("%H:%M") == "04:30"
    assert (await api.call("DELETE", "/schedules/nightly")).status == 204
    assert (await api.get("/schedules/nightly")).code == "schedule_not_found"


async def test_an_interval_counts_from_when_it_was_put_first(api: Api) -> None:
    schedule = (await _put(api, interval=90)).json
    assert (schedule["cron"], schedule["time_zone"], schedule["interval"]) == (None, None, 90)
    first = _moment(schedule["next_run_at"]) - timedelta(seconds=90)
    assert timedelta(0) <= _moment(schedule["created_at"]) - first < timedelta(seconds=30)
    assert (await _put(api, "fine", interval=1.0004)).json["interval"] == 1
    later = (utc_now() + 60 * MINUTE).replace(microsecond=0)
    schedule = (await _put(api, "later", interval=1.5, start_at=later.isoformat())).json
    assert _moment(schedule["next_run_at"]) == later


async def test_putting_again_keeps_the_beat_and_what_is_due(api: Api, change_schedule: ChangeSchedule) -> None:
    """A deployment that puts its schedules must not lose the slot of that very second."""
    await api.backend.mongo.collection("schedules").delete_many({})
    put = (await _put(api, interval=3600)).json
    due = utc_now() + 30 * MINUTE
    change_schedule("nightly", next_run_at=due, due_at=due)
    again = await _put(api, interval=3600, task={"type": "sleep"})
    assert (again.status, _moment(again.json["next_run_at"])) == (200, due)
    other = await _put(api, interval=3600, end_at=(utc_now() + 600 * MINUTE).isoformat())
    assert other.json["next_run_at"] == put["next_run_at"], "the beat is that of the first time"
    anew = await _put(api, interval=1800)
    assert _moment(anew.json["next_run_at"]) < _moment(put["next_run_at"])


async def test_a_new_time_is_after_the_last_slot(api: Api, change_schedule: ChangeSchedule) -> None:
    """A clock that is behind comes upon no slot that another has submitted."""
    await _put(api)
    ahead = (utc_now() + 5 * MINUTE).replace(second=0, microsecond=0)
    change_schedule("nightly", last_run_at=ahead)
    assert _moment((await _put(api, cron="* * * * *")).json["next_run_at"]) == ahead + MINUTE


async def test_bounds(api: Api) -> None:
    start = datetime(2090, 1, 1, 12, tzinfo=UTC)
    put = await _put(api, cron="0 0 * * *", start_at=start.isoformat(), end_at=(start + 20 * 60 * MINUTE).isoformat())
    assert _moment(put.json["next_run_at"]) == datetime(2090, 1, 2, tzinfo=UTC)
    over = await _put(api, "over", end_at="2020-01-01T00:00:00Z")
    assert (over.status, over.json["next_run_at"]) == (201, None)


async def test_a_pause(api: Api) -> None:
    put = (await _put(api)).json
    paused = await api.post("/schedules/nightly/pause")
    assert (paused.status, paused.json["paused"], paused.json["next_run_at"]) == (200, True, None)
    assert (await api.post("/schedules/nightly/pause")).json == paused.json
    assert (await _put(api, catch_up="skip")).json["paused"] is True, "what is left out stays as it was"
    resumed = await api.post("/schedules/nightly/resume", {})
    assert (resumed.json["paused"], resumed.json["next_run_at"]) == (False, put["next_run_at"])
    assert (await api.post("/schedules/nightly/resume")).json == resumed.json
    assert (await _put(api, paused=True)).json["paused"] is True
    assert (await _put(api, paused=False)).json["next_run_at"] == put["next_run_at"]


@pytest.mark.parametrize("how", ["resume", "put"])
@pytest.mark.parametrize(("catch_up", "next_slot"), [("one", -1), ("skip", 0)])
async def test_the_end_of_a_pause_in_which_slots_fell(
    api: Api, change_schedule: ChangeSchedule, how: str, catch_up: str, next_slot: int
) -> None:
    await _put(api, interval=600, catch_up=catch_up, paused=True)
    now = utc_now().replace(microsecond=0)
    anchor = now - 55 * MINUTE
    # Its task is of a type that nobody here knows: it stays due.
    unknown = {"task": {"type": "unheard.of"}} if how == "resume" else {}
    change_schedule("nightly", anchor_at=anchor, next_run_at=anchor + 10 * MINUTE, **unknown)
    if how == "resume":
        resumed = await api.post("/schedules/nightly/resume")
        assert _moment(resumed.json["next_run_at"]) == now + 5 * MINUTE + next_slot * 10 * MINUTE
    else:
        resumed = await _put(api, interval=600, catch_up=catch_up, paused=False)
        assert _moment(resumed.json["next_run_at"]) == now + 5 * MINUTE + next_slot * 10 * MINUTE


async def test_a_run_beside_the_slots(api: Api) -> None:
    put = (await _put(api, paused=True, task={"type": "echo", "payload": {"n": 1}, "tags": ["x"]})).json
    run = await api.post("/schedules/nightly/run")
    assert run.status == 201
    assert run.json["schedule"] == {"name": "nightly", "slot_at": None}
    assert (run.json["payload"], run.json["tags"]) == ({"n": 1}, ["x"])
    assert (await api.get(run.headers["Location"])).json == run.json
    assert (await api.get("/schedules/nightly")).json == put
    other = await api.submit()
    assert other["schedule"] is None
    assert [task["id"] for task in (await api.get("/tasks?schedule=nightly")).json["items"]] == [run.json["id"]]
    assert (await api.get("/tasks?schedule=other")).json["items"] == []


async def test_a_run_while_another_has_its_unique_key(api: Api) -> None:
    await _put(api, task={"type": "echo", "unique_key": "report"})
    first = await api.post("/schedules/nightly/run")
    again = await api.post("/schedules/nightly/run")
    assert (first.status, again.status) == (201, 200)
    assert again.json == first.json
    assert (first.headers.get("Existing-Task"), again.headers["Existing-Task"]) == (None, "true")


async def test_a_run_of_what_is_no_longer_accepted(api: Api, change_schedule: ChangeSchedule) -> None:
    await _put(api)
    change_schedule("nightly", task={"type": "gone"})
    assert (await api.post("/schedules/nightly/run")).code == "invalid"


async def test_pages_have_every_schedule_once_by_name(api: Api) -> None:
    names = sorted(f"s{number}" for number in range(7))
    for name in reversed(names):
        await _put(api, name)
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await api.get("/schedules?limit=3" + (f"&cursor={cursor}" if cursor else ""))).json
        found += [schedule["name"] for schedule in page["items"]]
        cursor = page["next_cursor"]
    assert found == names
    assert (await api.get("/schedules?cursor=xyz")).fields == {"cursor"}
    assert (await api.get("/schedules?limit=0")).fields == {"limit"}


def test_a_cursor_is_read_as_it_was_written() -> None:
    assert read_cursor(write_cursor(ScheduleName("a:b.c-d_e"))) == "a:b.c-d_e"


BAD: list[tuple[dict[str, Any], set[str]]] = [
    ({"cron": None}, {"cron"}),
    ({"cron": "0 3 * * *", "interval": 60}, {"cron"}),
    ({"cron": "0 3 * *"}, {"cron"}),
    ({"cron": "61 * * * *"}, {"cron"}),
    ({"cron": "0 0 31 2 *"}, {"cron"}),
    ({"cron": "*" * 201}, {"cron"}),
    ({"cron": 5}, {"cron"}),
    ({"interval": 0.5}, {"interval"}),
    ({"interval": "60"}, {"interval"}),
    ({"interval": True}, {"interval"}),
    ({"interval": 1e9}, {"interval"}),
    ({"interval": 60, "time_zone": "UTC"}, {"time_zone"}),
    ({"time_zone": "Europe/Atlantis"}, {"time_zone"}),
    ({"time_zone": "Europe"}, {"time_zone"}),
    ({"time_zone": "../../etc/passwd"}, {"time_zone"}),
    ({"time_zone": "right/UTC"}, {"time_zone"}),
    ({"time_zone": "localtime"}, {"time_zone"}),
    ({"time_zone": "Europe/\u0000"}, {"time_zone"}),
    ({"time_zone": ""}, {"time_zone"}),
    ({"start_at": "tomorrow"}, {"start_at"}),
    ({"start_at": "2030-01-01T00:00:00Z", "end_at": "2029-01-01T00:00:00Z"}, {"end_at"}),
    ({"catch_up": "all"}, {"catch_up"}),
    ({"paused": "no"}, {"paused"}),
    ({"colour": 1}, {"colour"}),
    ({"task": {}}, {"task.type"}),
    ({"task": {"type": "unheard.of"}}, {"task.type"}),
    ({"task": {"type": "sleep", "payload": {"seconds": "x"}}}, {"task.payload.seconds"}),
    ({"task": {"type": "echo", "run_at": "2030-01-01T00:00:00Z"}}, {"task.run_at"}),
    ({"task": {"type": "echo", "delay": 5}}, {"task.delay"}),
    ({"task": {"type": "echo", "idempotency_key": "x"}}, {"task.idempotency_key"}),
    ({"task": {"type": "echo", "callback": {"url": "https://example.com"}}}, {"task.callback"}),
    ({"task": {"type": "echo", "priority": 10, "start_before": "x"}}, {"task.priority", "task.start_before"}),
    ({"cron": "x", "time_zone": "y", "task": {"type": "z"}}, {"cron", "time_zone", "task.type"}),
]


async def test_a_bad_schedule_is_refused(api: Api) -> None:
    for fields, bad in BAD:
        answer = await _put(api, **fields)
        assert (answer.status, answer.code, answer.fields) == (422, "invalid", bad), fields
    assert (await api.get("/schedules")).json["items"] == []


async def test_an_impossible_name(api: Api) -> None:
    for name in ("a b", "%ff", "%00", "-a", "a" * 101, "ä"):
        assert (await _put(api, name)).fields == {"name"}
        assert (await api.get(f"/schedules/{name}")).code == "schedule_not_found"
        assert (await api.call("DELETE", f"/schedules/{name}")).code == "schedule_not_found"


@pytest.mark.parametrize("verb", ["pause", "resume", "run"])
async def test_a_schedule_that_is_not_there(api: Api, verb: str) -> None:
    assert (await api.post(f"/schedules/nightly/{verb}")).code == "schedule_not_found"
    assert (await api.post(f"/schedules/nightly/{verb}", {"x": 1})).fields == {"x"}


async def test_a_payload_with_the_keys_of_operators_is_kept(api: Api) -> None:
    task = {"type": "echo", "payload": {"$set": {"a.b": [{"$ref": 1}]}}}
    for status in (201, 200):
        put = await _put(api, task=task)
        assert (put.status, put.json["task"]["payload"]) == (status, task["payload"])
    assert (await api.get("/schedules/nightly")).json["task"]["payload"] == task["payload"]
    assert (await api.post("/schedules/nightly/pause")).json["task"]["payload"] == task["payload"]
