"""What can be registered as a task type, and what is refused with a sentence that says why."""

import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError
from typing_extensions import TypedDict

from app import Backoff, Context
from app.core.errors import TaskModuleError, TaskTypeError
from app.tasks.registry import Registry, load_task_modules
from app.tasks.registry import registry as global_registry


class Model(BaseModel):
    count: int


@dataclass
class Data:
    count: int


class Typed(TypedDict):
    count: int


async def plain(ctx: Context, payload: dict[str, Any]) -> None: ...


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.mark.parametrize("name", ["a", "email.send", "Shop:report_v2-final", "7zip", "x" * 100])
def test_good_names_are_accepted(registry: Registry, name: str) -> None:
    registry.task(name)(plain)
    assert list(registry) == [name]


@pytest.mark.parametrize("name", ["", ".a", "-a", "a b", "a/b", "a\n", "\na", "é", "x" * 101, "a$"])
def test_bad_names_are_refused(registry: Registry, name: str) -> None:
    with pytest.raises(TaskTypeError, match="is not a type name"):
        registry.task(name)


def test_a_taken_name_is_refused_and_the_first_stays(registry: Registry) -> None:
    registry.task("a")(plain)
    with pytest.raises(TaskTypeError, match="'a' is registered twice"):

        @registry.task("a")
        async def other(ctx: Context, payload: dict[str, Any]) -> None: ...

    assert registry["a"].handler is plain


def test_the_same_handler_may_be_registered_again_and_under_another_name(registry: Registry) -> None:
    registry.task("a")(plain)
    registry.task("a", max_attempts=9)(plain)
    registry.task("b")(plain)
    assert registry["a"].max_attempts == 9
    assert list(registry) == ["a", "b"]
    assert len(registry) == 2


@pytest.mark.parametrize("attempts", [0, -1, 1001])
def test_attempts_out_of_bounds_are_refused(registry: Registry, attempts: int) -> None:
    with pytest.raises(TaskTypeError, match="max_attempts must be 1 to 1000"):
        registry.task("a", max_attempts=attempts)


@pytest.mark.parametrize("timeout", [0, -1, 86_401, float("inf"), float("nan")])
def test_a_timeout_out_of_bounds_is_refused(registry: Registry, timeout: float) -> None:
    with pytest.raises(TaskTypeError, match="timeout must be above 0"):
        registry.task("a", timeout=timeout)


def test_the_defaults_are_kept(registry: Registry) -> None:
    @registry.task("a", max_attempts=7, timeout=1.5, backoff=Backoff(factor=3))
    async def handler(ctx: Context, payload: Model) -> None:
        """Do it.

        At length.
        """

    kind = registry["a"]
    assert kind.summary == "Do it."
    assert (kind.max_attempts, kind.timeout, kind.backoff.factor) == (7, timedelta(seconds=1.5), 3)
    assert registry.task("b")(plain) is plain
    assert (registry["b"].max_attempts, registry["b"].timeout) == (5, timedelta(minutes=1))
    assert (registry["b"].backoff, registry["b"].summary) == (Backoff(), "")


def test_a_coroutine_function_is_told_from_one_for_a_thread(registry: Registry) -> None:
    @registry.task("sync")
    def handler(ctx: Context, payload: Model) -> None: ...

    registry.task("async")(plain)
    assert not registry["sync"].is_async
    assert registry["async"].is_async


def nothing() -> None: ...
def one(ctx: Context) -> None: ...
def three(ctx: Context, payload: Model, extra: int = 0) -> None: ...
def star(*args: Any, **kwargs: Any) -> None: ...
def keyword(ctx: Context, *, payload: Model) -> None: ...


@pytest.mark.parametrize("handler", [nothing, one, three, star, keyword])
def test_a_handler_takes_a_context_and_a_payload(registry: Registry, handler: Any) -> None:
    with pytest.raises(TaskTypeError, match="a: the handler must take two parameters"):
        registry.task("a")(handler)
    assert len(registry) == 0


async def stream(ctx: Context, payload: Model) -> AsyncIterator[int]:
    yield 1


def generate(ctx: Context, payload: Model) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("handler", [stream, generate])
def test_a_generator_is_no_handler(registry: Registry, handler: Any) -> None:
    with pytest.raises(TaskTypeError, match="must return its result"):
        registry.task("a")(handler)


@pytest.mark.parametrize("handler", [3, None, Model, partial(plain)])
def test_only_functions_are_handlers(registry: Registry, handler: Any) -> None:
    with pytest.raises(TaskTypeError, match="must be a function"):
        registry.task("a")(handler)


@pytest.mark.parametrize("annotation", [Model, Data, Typed, Annotated[Model, Field(description="x")]])
def test_the_annotation_validates_the_payload(registry: Registry, annotation: Any) -> None:
    def handler(ctx: Context, payload: Any) -> None: ...

    handler.__annotations__["payload"] = annotation
    registry.task("a")(handler)
    adapter = registry["a"].payload
    adapter.validate_python({"count": 3})
    with pytest.raises(ValidationError):
        adapter.validate_python({"count": "many"})
    assert "count" in str(adapter.json_schema())


def test_constraints_of_an_annotated_payload_hold(registry: Registry) -> None:
    @registry.task("a")
    def handler(ctx: Context, payload: Annotated[dict[str, int], Field(max_length=1)]) -> None: ...

    with pytest.raises(ValidationError, match="at most 1 item"):
        registry["a"].payload.validate_python({"a": 1, "b": 2})


def bare(ctx: Context, payload: dict) -> None: ...  # type: ignore[type-arg]  # what a user may write
def untyped(ctx, payload): ...  # type: ignore[no-untyped-def]  # the same


@pytest.mark.parametrize("handler", [bare, untyped])
def test_a_dict_or_nothing_takes_any_json_object(registry: Registry, handler: Any) -> None:
    registry.task("a")(handler)
    adapter = registry["a"].payload
    assert adapter.validate_python({"a": [1, {"b": None}]}) == {"a": [1, {"b": None}]}
    for other in ([1], "a", {"a": object()}):
        with pytest.raises(ValidationError):
            adapter.validate_python(other)


class Opaque:
    pass


class Half(BaseModel):
    other: "Missing"  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Opaque, "cannot validate a payload"),
        (type(plain), "cannot validate a payload"),
        (Half, "cannot validate a payload"),
        ("NoSuchName", "cannot read the handler's annotations"),
        ("sys.no_such", "cannot read the handler's annotations"),
        ("not python", "cannot read the handler's annotations"),
    ],
)
def test_an_annotation_that_cannot_validate_is_refused(registry: Registry, annotation: Any, message: str) -> None:
    def handler(ctx: Context, payload: Any) -> None: ...

    handler.__annotations__["payload"] = annotation
    with pytest.raises(TaskTypeError, match=f"a: .*{message}"):
        registry.task("a")(handler)


def test_an_unknown_type_is_a_missing_key(registry: Registry) -> None:
    assert "a" not in registry
    assert registry.get("a") is None
    with pytest.raises(KeyError):
        registry["a"]


def test_the_built_in_types_are_always_loaded() -> None:
    assert load_task_modules([]) is global_registry
    assert {"echo", "http.request", "sleep"} <= set(global_registry)
    assert load_task_modules(()) is global_registry


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "TASK_MODULES: cannot import 'users_module': No module named 'users_module'"),
        ("import no_such_dependency", "cannot import 'users_module': No module named 'no_such_dependency'"),
        ("from app import NoSuch", "cannot import 'users_module': cannot import name 'NoSuch'"),
        ("def broken(:", "cannot import 'users_module': invalid syntax"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, message: str
) -> None:
    if source is not None:
        (tmp_path / "users_module.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskModuleError, match=message):
        load_task_modules(["users_module"])
    assert "users_module" not in sys.modules


def test_a_module_cannot_take_the_name_of_a_built_in_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        from app import task

        @task("echo")
        async def mine(ctx, payload): ...
    """
    (tmp_path / "greedy_module.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskTypeError, match="'echo' is registered twice"):
        load_task_modules(["greedy_module"])
