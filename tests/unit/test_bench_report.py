"""The report of `make bench` says what is missing; it never fails on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from xml.etree import ElementTree as ET

import pytest

from bench.load.connection import connect, get, post
from bench.meter import Cost
from bench.plots import BarOf, bar_chart
from bench.processes import ProgramError, reason_in
from bench.rounds import Rounds
from bench.service.accept import Accepted, AcceptKey
from bench.service.bars import bars
from bench.service.pictures import pictures
from bench.service.plan import QUICK, SECTIONS
from bench.service.report import page
from bench.service.results import OnServer, Results
from bench.service.stacks import ARQIVE, NODE, PLAIN_TUNED, Stack
from bench.service.trial import Load


def results(*sections: str) -> Results:
    return Results([("processor", "a fast one, 2 cores, 24 GiB")], "make bench", QUICK, sections)


def accepted(rate: float) -> Accepted:
    return Accepted(Load(round(rate), 1.0, 5.0, 9.0, 0.1), Cost({}, 0, 0, 0))


def test_a_run_that_found_nothing_has_a_page_and_pictures() -> None:
    found = results(*SECTIONS)
    assert page(found).count("not measured") > 20
    for picture in pictures(found).values():
        ET.fromstring(picture)  # noqa: S314 - our own


def test_a_system_that_could_not_be_started_is_a_row_that_says_so() -> None:
    found = results("accept")
    found.main.accepts.failed[AcceptKey(NODE, 50)] = "node and npm are not on PATH"
    [row] = [line for line in page(found).splitlines() if line.startswith(f"| {NODE.label}")]
    assert "node and npm are not on PATH" in row


@pytest.mark.parametrize(("ours", "met"), [(3000.0, True), (2900.0, False)])
def test_a_target_is_met_or_not(ours: float, met: bool) -> None:
    found = results("accept")
    rounds: dict[Stack, list[float]] = {ARQIVE: [1.0, ours, 9000.0], PLAIN_TUNED: [1000.0]}
    for stack, rates in rounds.items():
        found.main.accepts.found[AcceptKey(stack, 50)] = [accepted(rate) for rate in rates]
    first, second = bars(found)
    assert (first.met, first.found) == (met, f"{ours / 1000:.1f} times: {ours:,.0f} and 1,000/s")
    assert (second.met, second.found) == (False, "not measured")


def test_sections_that_did_not_run_are_left_out() -> None:
    found = results()
    assert not list(bars(found))
    assert "## Accepting" not in page(found)
    assert found.embedded == OnServer()


async def test_what_fails_once_is_told_and_not_tried_again() -> None:
    rounds: Rounds[str, int] = Rounds()
    told: list[str] = []

    async def fail() -> int:
        raise ProgramError("it ended")

    for _ in range(2):
        assert await rounds.add("it", fail, told.append) is None
    assert (rounds.failed, told) == ({"it": "it ended"}, ["  failed: it ended"])


def test_the_reason_is_the_last_line_that_speaks_of_an_error() -> None:
    assert reason_in(b"start\nValueError: no\n  | bye\n") == "ValueError: no"
    assert reason_in(b"start\n\n  bye\n") == "bye"
    assert reason_in(b"") == "without a word"


def test_a_bar_is_as_long_as_its_share_of_the_longest() -> None:
    bars_ = [
        BarOf("a <b>", 50.0, "50", ours=True),
        BarOf("c", 100.0, "100", ours=False),
        BarOf("d", None, "-", ours=False),
    ]
    tree = ET.fromstring(bar_chart("Speed & co", [("one", bars_)]))  # noqa: S314 - our own
    half, whole, none = [float(rect.attrib["width"]) for rect in tree.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert (half, none) == (whole / 2, 1.0)


@asynccontextmanager
async def answering(*pieces: bytes) -> AsyncIterator[str]:
    """A server that answers every request with these pieces, one write each."""

    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(4096):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0.01)  # so that each comes alone
        writer.transport.abort()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/tasks"
        await ended.wait()


async def test_an_answer_may_come_in_pieces() -> None:
    pieces = (b"HTTP/1.1 201 Created\r\ncontent-le", b"ngth: 4\r\n\r\nab", b"cd")
    async with answering(*pieces) as url:
        connection = await connect(url)
        for raw in (post(url, b"{}"), get(url + "?wait=1")):
            assert await connection.request(raw) == (201, b"abcd")
        connection.close()


async def test_an_answer_of_unknown_length_is_not_waited_for() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n") as url:
        connection = await connect(url)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(connection.request(get(url)), 5)
        connection.close()
