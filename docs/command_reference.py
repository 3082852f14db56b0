"""Writes commands.md: every command with its arguments and options, from the commands themselves."""

from collections.abc import Iterator
from typing import Any

import typer

from app.cli import cli
from app.commands.session import OPTIONS

_COMMON = set(OPTIONS)


def reference() -> Iterator[str]:
    """The parts of the page: a section for each command, and one for the options that many have."""
    root = typer.main.get_command(cli)
    shared: list[Any] = []
    for path, command in _commands(root, ("arqive",)):
        own = [each for each in command.params if each.name not in _COMMON and not getattr(each, "hidden", False)]
        shared = shared or [each for each in command.params if each.name in _COMMON]
        yield f"## {' '.join(path[1:])}"
        yield f"```\n{_usage(path, command, own)}\n```"
        yield _unwrapped(command.help)
        if rows := [[f"`{_names(each)}`", _help(each)] for each in own if each.name != "help"]:
            yield _list(rows)
    yield "## Options of every command that talks to a service"
    yield _list([[f"`{_names(each)}`", _help(each)] for each in shared])


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    context = typer.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if hasattr(inner, "list_commands"):
            yield from _commands(inner, (*path, name))
        else:
            yield (*path, name), inner


def _usage(path: tuple[str, ...], command: Any, own: list[Any]) -> str:
    arguments = [
        each.metavar or each.name.upper() if each.required else f"[{each.metavar}]"
        for each in own
        if each.param_type_name == "argument"
    ]
    talks = any(each.name in _COMMON for each in command.params)
    has_options = talks or any(each.param_type_name == "option" for each in own)
    return " ".join([*path, *arguments, *(["[OPTIONS]"] if has_options else [])])


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    choices = parameter.type_descriptor.choices if parameter.type_descriptor.is_choice else None
    value = parameter.metavar or ("|".join(str(choice.value) for choice in choices) if choices else _kind(parameter))
    return f"{names} {value}"


def _kind(parameter: Any) -> str:
    return {int: "N", float: "NUMBER"}.get(parameter.type_descriptor.annotation, "TEXT")


def _help(parameter: Any) -> str:
    bounds = [f"{bound:g}" for bound in (parameter.min, parameter.max) if bound is not None]
    notes = [" to ".join(bounds)] if len(bounds) == 2 else []
    if getattr(parameter, "envvar", None):
        notes.append(f"or `{parameter.envvar}` in the environment")
    if parameter.default not in (None, False, "", [], ()) and not parameter.required:
        notes.append(f"`{parameter.default}` by default")
    return _unwrapped(parameter.help) + (f" ({'; '.join(notes)})" if notes else "")


def _unwrapped(text: str | None) -> str:
    paragraphs = (text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _list(rows: list[list[str]]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in rows)
