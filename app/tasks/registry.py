"""Registers task types: the `@task` decorator and the loading of TASK_MODULES."""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, get_type_hints

from pydantic import JsonValue, PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter

from app.core import limits
from app.core.backoff import Backoff
from app.core.errors import TaskModuleError, TaskTypeError
from app.core.task_type import Handler, TaskType

H = TypeVar("H", bound=Handler)

_NAME = re.compile(limits.NAME_PATTERN)
_POSITIONAL = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})


class Registry(Mapping[str, TaskType]):
    """Task types by name."""

    def __init__(self) -> None:
        self._types: dict[str, TaskType] = {}

    def __getitem__(self, name: str) -> TaskType:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._types))

    def __len__(self) -> int:
        return len(self._types)

    def task(
        self,
        name: str,
        *,
        max_attempts: int = 5,
        timeout: float = 60.0,
        backoff: Backoff | None = None,
        process: bool = False,
        internal: bool = False,
    ) -> Callable[[H], H]:
        """Register the decorated function as the handler of a type.

        The function takes a context and a payload. The payload's annotation validates it (a pydantic model, a
        dataclass, a TypedDict, before Python 3.12 that of `typing_extensions`, or `dict` for any JSON object). It may
        be `async def`; otherwise it runs in a thread, or with `process` in a process.

        Args:
            name: What clients write in `type`; letters, digits and `_ . : -`.
            max_attempts: Default for tasks that do not say, 1 to 1,000.
            timeout: Default seconds that one attempt may take, up to a day.
            backoff: Default delay between attempts.
            process: Whether it gets a process to itself while it runs: for code that computes, that may crash, or that
                has to be stoppable. The process imports TASK_MODULES, so the function must be registered by that.
            internal: For Arqive itself: clients neither see nor submit the type.

        Raises:
            TaskTypeError: the name is bad or taken, a default is out of bounds, or the function has the wrong shape.
        """
        _check(name, max_attempts, timeout)

        def register(handler: H) -> H:
            if process and inspect.iscoroutinefunction(handler):
                raise TaskTypeError(f"{name}: with process=True the handler must be a plain def, not a coroutine")
            if name in self._types and self._types[name].handler is not handler:
                raise TaskTypeError(f"the type {name!r} is registered twice")
            self._types[name] = TaskType(
                name=name,
                handler=handler,
                payload=_payload_adapter(name, handler),
                is_async=inspect.iscoroutinefunction(handler),
                summary=(inspect.getdoc(handler) or "").split("\n", 1)[0],
                max_attempts=max_attempts,
                timeout=timedelta(seconds=timeout),
                backoff=backoff or Backoff(),
                in_process=process,
                internal=internal,
            )
            return handler

        return register


def _check(name: str, max_attempts: int, timeout: float) -> None:
    if not _NAME.fullmatch(name) or len(name) > limits.MAX_NAME:
        raise TaskTypeError(f"{name!r} is not a type name: letters, digits and _ . : - only, at most {limits.MAX_NAME}")
    if not 1 <= max_attempts <= limits.MAX_ATTEMPTS:
        raise TaskTypeError(f"{name}: max_attempts must be 1 to {limits.MAX_ATTEMPTS}, not {max_attempts}")
    if not 0 < timeout <= limits.MAX_TIMEOUT.total_seconds():
        raise TaskTypeError(f"{name}: timeout must be above 0 and at most a day in seconds, not {timeout}")


def _payload_adapter(name: str, handler: Handler) -> TypeAdapter[Any]:
    if not inspect.isroutine(handler):
        raise TaskTypeError(f"{name}: the handler must be a function, not {handler!r}")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise TaskTypeError(f"{name}: the handler must return its result; it yields")
    parameters = list(inspect.signature(handler).parameters.values())
    if len(parameters) != 2 or any(parameter.kind not in _POSITIONAL for parameter in parameters):
        raise TaskTypeError(f"{name}: the handler must take two parameters, a context and a payload")
    try:
        hints = get_type_hints(handler, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise TaskTypeError(f"{name}: cannot read the handler's annotations: {error}") from error
    annotation = hints.get(parameters[1].name, dict)
    if annotation is dict:
        annotation = dict[str, JsonValue]
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        adapter.json_schema()  # GET /types shows it: better no start than a type that cannot be shown
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise TaskTypeError(f"{name}: {annotation!r} cannot validate a payload: {error.message}") from error
    return adapter


registry = Registry()
"""What `@task` registers in and web and worker serve from."""

task = registry.task


def load_task_modules(modules: Sequence[str]) -> Registry:
    """Import the built-in types and the named modules, so that their types are registered.

    Raises:
        TaskModuleError: a module cannot be imported; the message names it and says why.
        TaskTypeError: a module registers a type wrongly.
    """
    importlib.import_module("app.tasks.builtin")
    for module in modules:
        try:
            importlib.import_module(module)
        except (ImportError, SyntaxError) as error:
            raise TaskModuleError(f"TASK_MODULES: cannot import {module!r}: {error}") from error
    return registry
