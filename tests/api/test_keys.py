"""API keys: who comes in where, what the others are told, and what every answer says to browsers and proxies."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.api.endpoint import Endpoint, Permission
from app.api.endpoints import ENDPOINTS
from app.api.openapi import build_document
from app.core.api_keys import Scope, entry_of
from app.web import access_of
from settings import SettingsError, load_settings
from tests.api.conftest import Api, RunApi

KEYS = {scope: f"the {scope} key of the tests" for scope in Scope}
API_KEYS = ", ".join(entry_of(f"{scope}er", scope, key) for scope, key in KEYS.items())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def guarded(run_api: RunApi) -> AsyncIterator[Api]:
    async with run_api(api_keys=API_KEYS) as api:
        yield api


async def status_of(api: Api, endpoint: Endpoint, key: str | None) -> int:
    """What an endpoint answers before its body: a stream has no end."""
    path = endpoint.path.format_map({"task_id": "0" * 24, "name": "nobody"})
    headers = {} if key is None else bearer(key)
    async with api.client.request(endpoint.method, path, headers=headers) as response:
        return response.status


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_every_endpoint_is_of_a_kind_that_is_known(endpoint: Endpoint) -> None:
    """What is open to everybody is listed here by hand, so that nothing becomes open by mistake."""
    if endpoint.permission is Permission.NONE:
        assert endpoint.path in {
            "/health/live", "/health/ready", "/openapi.json", "/docs", "/docs/page.js", "/docs/page.css"
        }  # fmt: skip
    if endpoint.opening is not None:
        assert (endpoint.method, endpoint.path) in {("GET", "/health"), ("GET", "/metrics")}


async def test_every_endpoint_needs_its_scope(run_api: RunApi) -> None:
    async with run_api(api_keys=API_KEYS, open_endpoints="none") as api:
        for endpoint in ENDPOINTS:
            if endpoint.permission is Permission.NONE:
                assert await status_of(api, endpoint, None) == 200, endpoint.name
                continue
            assert await status_of(api, endpoint, None) == 401, endpoint.name
            assert await status_of(api, endpoint, "a guess") == 401, endpoint.name
            needed = Scope(endpoint.permission.value)
            for scope, key in KEYS.items():
                status = await status_of(api, endpoint, key)
                if scope.includes(needed):
                    assert status not in {401, 403}, (endpoint.name, scope)
                else:
                    assert status == 403, (endpoint.name, scope)


def test_scopes_include_those_below_them() -> None:
    assert [[scope.includes(other) for other in Scope] for scope in Scope] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


async def test_a_request_without_a_key_is_told_what_to_send(guarded: Api) -> None:
    answer = await guarded.get("/tasks")
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="arqive"'


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dXNlcjpwdw==", KEYS[Scope.ADMIN], f"Token {KEYS[Scope.ADMIN]}",
     f"Bearer {KEYS[Scope.ADMIN][:-1]}", f"Bearer {KEYS[Scope.ADMIN]}x", "Bearer " + "x" * 5_000, "Bearer \udcff"],
)  # fmt: skip
async def test_what_is_not_a_key_does_not_come_in(guarded: Api, header: str) -> None:
    answer = await guarded.get("/tasks", headers={"Authorization": header})
    assert (answer.status, answer.code) == (401, "unauthorized")


async def test_the_word_bearer_may_be_written_anyhow(guarded: Api) -> None:
    answer = await guarded.get("/tasks", headers={"Authorization": f"bEARER   {KEYS[Scope.READ]} "})
    assert answer.status == 200


async def test_a_key_with_too_low_a_scope_is_told_which_it_needs(guarded: Api) -> None:
    answer = await guarded.post("/tasks", {"type": "echo"}, headers=bearer(KEYS[Scope.READ]))
    assert (answer.status, answer.code) == (403, "forbidden")
    assert "write" in answer.json["detail"]
    assert 'error="insufficient_scope", scope="write"' in answer.headers["WWW-Authenticate"]


async def test_whoever_may_not_come_in_is_told_nothing_of_what_is_there(guarded: Api) -> None:
    """Neither the body nor the path of a request is looked at before its key."""
    for body in (b"{", b"x" * 200_000):
        answer = await guarded.call("POST", "/tasks", data=body)
        assert answer.status == 401
    assert (await guarded.get("/tasks/no-such-id")).status == 401


async def test_a_key_works_from_submit_to_delete(guarded: Api) -> None:
    headers = bearer(KEYS[Scope.WRITE])
    task = (await guarded.post("/tasks", {"type": "echo"}, headers=headers)).json
    assert (await guarded.post(f"/tasks/{task['id']}/cancel", headers=headers)).json["status"] == "cancelled"
    assert (await guarded.call("DELETE", f"/tasks/{task['id']}", headers=headers)).status == 204


@pytest.mark.parametrize(("opened", "status"), [("health", 200), ("health,metrics", 200), ("none", 401)])
async def test_health_is_open_unless_that_is_switched_off(run_api: RunApi, opened: str, status: int) -> None:
    async with run_api(api_keys=API_KEYS, open_endpoints=opened) as api:
        answer = await api.get("/health")
        assert answer.status == status
        if status == 200:
            assert answer.json["access"] == "keys"
        assert (await api.get("/health", headers=bearer(KEYS[Scope.READ]))).status == 200
        for probe in ("live", "ready"):
            assert (await api.get(f"/health/{probe}")).status == 200


async def test_without_keys_health_says_so(api: Api) -> None:
    assert (await api.get("/health")).json["access"] == "open"
    assert (await api.get("/tasks", headers=bearer("whatever"))).status == 200


async def test_an_empty_ring_lets_everybody_in_and_one_with_keys_does_not() -> None:
    assert not access_of(load_settings()).restricted
    assert access_of(load_settings(api_keys=API_KEYS)).restricted


class TestHowOften:
    async def test_a_key_that_is_used_too_often_waits(self, run_api: RunApi) -> None:
        keys = API_KEYS + ", " + entry_of("slow", Scope.READ, "slow") + ":rate=0.001"
        async with run_api(api_keys=keys, api_key_burst=3) as api:
            statuses = [(await api.get("/tasks", headers=bearer("slow"))).status for _ in range(5)]
            assert statuses == [200, 200, 200, 429, 429]
            answer = await api.get("/tasks", headers=bearer("slow"))
            assert answer.code == "rate_limited"
            assert 900 < int(answer.headers["Retry-After"]) <= 1000
            for _ in range(5):
                assert (await api.get("/tasks", headers=bearer(KEYS[Scope.READ]))).status == 200

    async def test_refusals_count(self, run_api: RunApi) -> None:
        async with run_api(api_keys=API_KEYS, api_key_rate=0.001, api_key_burst=2) as api:
            headers = bearer(KEYS[Scope.READ])
            statuses = [(await api.post("/tasks", {"type": "echo"}, headers=headers)).status for _ in range(3)]
            assert statuses == [403, 403, 429]

    async def test_it_holds_without_redis(self, run_api: RunApi) -> None:
        async with run_api(
            api_keys=API_KEYS, api_key_rate=0.001, api_key_burst=1, redis_url="redis://127.0.0.1:1"
        ) as api:
            statuses = [(await api.get("/tasks", headers=bearer(KEYS[Scope.READ]))).status for _ in range(2)]
            assert statuses == [200, 429]


class TestHeaders:
    async def test_every_answer_tells_browsers_and_proxies_to_keep_out(self, guarded: Api) -> None:
        seen = [
            await guarded.get("/tasks", headers=bearer(KEYS[Scope.READ])),
            await guarded.get("/tasks"),
            await guarded.get("/nowhere"),
            await guarded.call("PUT", "/tasks"),
            await guarded.get("/health/live"),
            await guarded.get("/docs"),
            await guarded.get("/docs/page.js"),
        ]
        for answer in seen:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Server"] == "arqive"
        assert {answer.headers["Cache-Control"] for answer in seen[:5]} == {"no-store"}
        assert {answer.headers["Cache-Control"] for answer in seen[5:]} == {"no-cache"}


class TestDocument:
    def test_it_says_which_scope_an_operation_needs(self) -> None:
        document = build_document(ENDPOINTS, version="1", access=access_of(load_settings(api_keys=API_KEYS)))
        assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
        for operation, permission in _operations(document):
            if permission == "none" or operation["operationId"] == "get_health":
                assert operation["security"] == []
                assert not {"401", "403", "429"} & set(operation["responses"])
            else:
                assert operation["security"] == [{"key": [permission]}]
                assert {"401", "429"} <= set(operation["responses"])
                assert ("403" in operation["responses"]) is (permission != "read")

    def test_without_keys_none_is_needed(self) -> None:
        for operation, permission in _operations(build_document(ENDPOINTS, version="1")):
            if permission != "none" and operation["operationId"] != "get_health":
                assert operation["security"] == [{}, {"key": [permission]}]


def _operations(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    for item in document["paths"].values():
        for operation in item.values():
            yield operation, operation["x-permission"]


class TestSettings:
    def test_keys_of_the_variable_and_of_the_file_add_up(self, tmp_path: Path) -> None:
        file = tmp_path / "keys"
        lines = ("# who calls", entry_of("b", Scope.READ, "b") + " # the board", "", entry_of("c", Scope.ADMIN, "c"))
        file.write_text("\n".join(lines))
        settings = load_settings(api_keys=entry_of("a", Scope.WRITE, "a") + ":rate=2.5", api_keys_file=str(file))
        assert [(entry.name, entry.scope, entry.rate) for entry in settings.api_key_entries] == [
            ("a", "write", 2.5), ("b", "read", None), ("c", "admin", None)
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "text",
        ["the-raw-key", "ci:write:the-raw-key", "ci:write:sha256:abc", "ci:root:sha256:" + "0" * 64,
         "c i:write:sha256:" + "0" * 64, "ci:write:md5:" + "0" * 64, "ci:write:sha256:" + "0" * 64 + ":rate=x",
         "ci:write:sha256:" + "0" * 64 + ":rate=200000", "ci:write:sha256:" + "0" * 64 + ":rate=0.0001", ",", "# none",
         entry_of("a", Scope.READ, "1") + "," + entry_of("a", Scope.READ, "2"),
         entry_of("a", Scope.READ, "1") + "," + entry_of("b", Scope.READ, "1")],
    )  # fmt: skip
    def test_a_bad_entry_stops_the_start_with_a_line_that_shows_nothing_of_it(self, text: str, tmp_path: Path) -> None:
        with _refused("API_KEYS") as message:
            load_settings(api_keys=text)
        assert "raw" not in message[0]
        assert "0000" not in message[0]
        file = tmp_path / "keys"
        file.write_text(text)
        with _refused("API_KEYS_FILE"):
            load_settings(api_keys_file=str(file))

    @pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe"])
    def test_a_file_without_keys_does_not_open_the_service(self, content: bytes | None, tmp_path: Path) -> None:
        """A secret that was not mounted must not let everybody in."""
        file = tmp_path / "keys"
        if content is not None:
            file.write_bytes(content)
        with _refused("API_KEYS_FILE"):
            load_settings(api_keys_file=str(file))

    def test_a_name_may_not_be_in_both(self, tmp_path: Path) -> None:
        file = tmp_path / "keys"
        file.write_text(entry_of("a", Scope.READ, "1"))
        with _refused("API_KEYS_FILE"):
            load_settings(api_keys=entry_of("a", Scope.READ, "2"), api_keys_file=str(file))


@contextmanager
def _refused(variable: str) -> Iterator[list[str]]:
    message: list[str] = []
    with pytest.raises(SettingsError) as caught:
        yield message
    message.append(str(caught.value))
    assert message[0].startswith(f"{variable}: ")
    assert "\n" not in message[0]
