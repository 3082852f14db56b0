"""Writes the pages of docs/ that follow from code: states.md, settings.md, metrics.md and commands.md.

`make docs` writes them. With `--check` nothing is written and the exit code is 1 when a page is not what it would be.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from command_reference import reference
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.core.states import TERMINAL, TRANSITIONS, Status
from app.telemetry.catalogue import CATALOGUE
from settings import Settings

DOCS = Path(__file__).resolve().parent

_UNITS = ("seconds", "days", "bytes")


def states_page() -> str:
    """The picture and the tables of states.md."""
    meanings = _member_comments(Status)
    statuses = [[f"`{status}`", "yes" if status in TERMINAL else "no", meanings[status.name]] for status in Status]
    arrows = [
        [
            transition.verb,
            ", ".join(f"`{name}`" for name in transition.source_names) or "none",
            f"`{transition.target}`",
            transition.actor,
            _code_paths(transition.when),
        ]
        for transition in TRANSITIONS
    ]
    return _page(
        "States of a task",
        "app/core/states.py",
        "Every arrow that exists is here; the store's writes take their filters from the same data, so a move that is "
        "not drawn is refused, over HTTP with 409. A task that waits for its time is `pending` with `run_at` in the "
        "future. The states that end a task are kept until `expire_at`, and then the document is removed.",
        "```mermaid\nstateDiagram-v2\n" + "\n".join(f"    {line}" for line in _mermaid()) + "\n```",
        "## Statuses",
        _table(["status", "ended", "what moves it on"], statuses),
        "## Transitions",
        _table(["verb", "from", "to", "who", "when"], arrows),
    )


def settings_page() -> str:
    """The table of settings.md."""
    rows = [
        [f"`{name.upper()}`", _default(field), _bounds(name, field), field.description or ""]
        for name, field in Settings.model_fields.items()
    ]
    return _page(
        "Settings",
        "settings/settings.py",
        "Settings are environment variables. One that is missing or empty takes its default; one that is out of bounds "
        "stops the start with a line that names it. A setting marked secret is never logged nor shown in an error.",
        _table(["variable", "default", "values", "meaning"], rows),
    )


def metrics_page() -> str:
    """The table of metrics.md."""
    rows = [
        [
            f"`{spec.name}`",
            spec.kind.value,
            ", ".join(spec.roles),
            ", ".join(f"`{label}`" for label in spec.labels),
            spec.meaning,
        ]
        for spec in CATALOGUE
    ]
    return _page(
        "Metrics",
        "app/telemetry/catalogue.py",
        "What `/metrics` of web and of a worker has, beside the `process_*` and `python_*` metrics that every Python "
        "service has; how to scrape it and what to watch is in [observability](observability.md). A histogram is three "
        "metrics, with `_bucket`, `_sum` and `_count` after its name. With `--processes` all but those that say so "
        "have a label `process` as well.",
        _table(["metric", "kind", "of", "labels", "meaning"], rows),
    )


def commands_page() -> str:
    """Every command of commands.md."""
    return _page(
        "Commands",
        "the commands in app/cli.py and app/commands/",
        "`arqive`, or `python -m app`, and what it takes; [the command line](command-line.md) says how to use it. "
        "`arqive COMMAND --help` shows the same.",
        *reference(),
    )


PAGES: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "states.md": states_page,
        "settings.md": settings_page,
        "metrics.md": metrics_page,
        "commands.md": commands_page,
    }
)
"""Name in docs/ and what writes it."""


def _mermaid() -> list[str]:
    labels: dict[tuple[str, str], list[str]] = {}
    for transition in TRANSITIONS:
        for source in transition.source_names or ["[*]"]:
            labels.setdefault((source, transition.target.value), []).append(transition.verb)
    lines = [f"{source} --> {target}: {' / '.join(verbs)}" for (source, target), verbs in labels.items()]
    return lines + [f"{status} --> [*]" for status in Status if status in TERMINAL]


def _member_comments(enum: type[Status]) -> dict[str, str]:
    found = re.findall(r"^ +([A-Z_]+) = .*?  # (.+)$", inspect.getsource(enum), re.MULTILINE)
    comments = {name: _code_paths(comment) for name, comment in found}
    if missing := [member.name for member in enum if member.name not in comments]:
        raise SystemExit(f"{enum.__name__}: no comment beside {', '.join(missing)}")
    return comments


def _code_paths(text: str) -> str:
    return re.sub(r"\b((?:GET|POST|PATCH|PUT|DELETE) /\S+)", r"`\1`", text)


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else "empty"


def _bounds(name: str, field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if annotation is SecretStr:
        return "URL, secret" if name.endswith("_url") else "text, secret"
    if annotation is bool:
        return "`true` or `false`"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        least = any(isinstance(rule, MinLen) for rule in field.metadata)
        kind = "secrets" if SecretStr in get_args(annotation) else "names"
        return f"{kind}, comma between{'; at least one' if least else ''}"
    low, high = _limits(field.metadata)
    if annotation is str:
        return f"text, {low} to {high} characters" if high else "text"
    unit = next((f" {unit}" for unit in _UNITS if name.endswith(f"_{unit}")), "")
    return f"{low} to {high}{unit}"


def _limits(metadata: Iterable[object]) -> tuple[str, str]:
    low = high = ""
    for rule in metadata:
        match rule:
            case Ge(ge=bound) | MinLen(min_length=bound):
                low = f"{bound:,}"
            case Gt(gt=bound):
                low = f"above {bound:,}"
            case Le(le=bound) | MaxLen(max_length=bound):
                high = f"{bound:,}"
            case Lt(lt=bound):
                high = f"below {bound:,}"
            case _:
                pass
    return low, high


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _page(title: str, source: str, *parts: str) -> str:
    head = f"# {title}\n\n<!-- Written by `make docs` from {source}: change that, not this. -->"
    return "\n\n".join([head, *parts]) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with `--check` say which are stale; 1 when one is."""
    code = 0
    for name, write in PAGES.items():
        path, wanted = DOCS / name, write()
        if path.is_file() and path.read_text(encoding="utf-8") == wanted:
            continue
        if "--check" in arguments:
            print(f"docs/{name} is stale: run `make docs`", file=sys.stderr)
            code = 1
        else:
            path.write_text(wanted, encoding="utf-8")
            print(f"docs/{name} written")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
