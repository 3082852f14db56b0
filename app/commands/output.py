"""What commands print: tables for people, JSON for programs, complaints in one line."""

import sys
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic_core import to_json
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

Cell = Text | str | None

GAP = 2  # between columns
LEAST = 12  # characters of a column that is cut
UNBOUND = 1_000  # characters of a line where there is no terminal


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column of a table.

    Attributes:
        title: Its head.
        cell: What it says of an item; None leaves it empty.
        right: Whether it is a number, which stands at the right.
        shrinks: Whether it is cut where the terminal is too narrow; the others are kept whole.
    """

    title: str
    cell: Callable[[T], Cell]
    right: bool = False
    shrinks: bool = False


class Output:
    """Standard output for results, standard error for the rest."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        # NO_COLOR and TERM=dumb are rich's to honour; soft_wrap is not, since tables need the width.
        self._out = Console(highlight=False, emoji=False, markup=False, width=None if sys.stdout.isatty() else UNBOUND)
        self._err = Console(stderr=True, highlight=False, emoji=False, markup=False)
        self._bar: Console | None = None

    @property
    def is_conversation(self) -> bool:
        """Whether somebody sits there who can be asked."""
        return sys.stdin.isatty() and self._out.is_terminal and not self.as_json

    @property
    def _aside(self) -> Console:
        """Standard error; while a bar is drawn, what goes to the same terminal has to go through it."""
        return self._bar if self._bar and self._err.is_terminal else self._err

    def complain(self, message: str) -> None:
        """One line on standard error."""
        self._aside.print(Text(f"arqive: {' '.join(message.split())}", style="red"), soft_wrap=True)

    def note(self, message: str) -> None:
        """A line on standard error for people; a program does not get it."""
        if not self.as_json:
            self._aside.print(message, soft_wrap=True)

    def say(self, value: object, sentence: Cell) -> None:
        """What was done: the value for programs, the sentence for people."""
        if self.as_json:
            self.json(value)
        else:
            self._out.print(sentence or "", soft_wrap=True)

    def json(self, value: object) -> None:
        """One JSON value in one line."""
        line = to_json(value).decode()
        if self._bar and self._out.is_terminal:
            self._out.print(line, soft_wrap=True)
        else:
            print(line, flush=True)

    async def items(self, items: AsyncIterable[T] | Iterable[T], columns: Sequence[Column[T]], *, empty: str) -> None:
        """A list: a JSON value a line as they come, or a table.

        Args:
            items: What there is.
            columns: Of the table.
            empty: What people are told where there is nothing.
        """
        gathered: list[T] = []
        async for item in _each(items):
            if self.as_json:
                self.json(item)
            else:
                gathered.append(item)
        if gathered:
            self._out.print(_table(gathered, columns, self._out.width))
        elif not self.as_json:
            self.note(empty)

    def sheet(self, rows: Iterable[tuple[Cell, Cell]]) -> None:
        """Names and values beside each other; rows without a value are left out."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold" if self._out.is_terminal else "", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            if value is not None:
                table.add_row(name or "", value)
        self._out.print(table)

    def table(self, items: Sequence[T], columns: Sequence[Column[T]], *, title: str) -> None:
        """A table with a head, for people; nothing where there are no items."""
        if items:
            self._out.print()
            self._out.print(title, style="bold")
            self._out.print(_table(items, columns, self._out.width))

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A bar on the terminal while the block runs, where there is one; gives what adds to it.

        Args:
            what: What is counted.
            total: How many there are, or None where nobody knows.
        """
        console = self._out if self._out.is_terminal else self._err
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not console.is_terminal,
        )
        self._bar = console if console.is_terminal else None
        try:
            with bar:
                counted = bar.add_task(what, total=total)
                yield lambda number: bar.update(counted, advance=number)
        finally:
            self._bar = None


async def _each(items: AsyncIterable[T] | Iterable[T]) -> "AsyncIterable[T]":
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def _table(items: Sequence[T], columns: Sequence[Column[T]], width: int) -> Table:
    cells = [[column.cell(item) or "" for item in items] for column in columns]
    widths = [max(len(each) for each in [column.title, *texts]) for column, texts in zip(columns, cells, strict=True)]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for column, own_width in zip(columns, widths, strict=True):
        others = sum(widths) - own_width + GAP * (len(columns) - 1)
        # Rich by itself would take from every column until some are gone.
        fitting = min(own_width, max(width - others, LEAST)) if column.shrinks else own_width
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=fitting,
        )
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    return table
