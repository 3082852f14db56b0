"""Every curl of the pages is a request that a service takes, and the callback that one asks for comes."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from yarl import URL

from settings import Settings, load_settings
from tests.callback_receiver import SECRET, receiving
from tests.fundamentals.conftest import Client, submit, wait_for
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "examples/README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "docs/guides").glob("*.md"))

_FENCE = re.compile(r"^```(\w*)\n(.+?)^```", re.MULTILINE | re.DOTALL)
_STARTS = re.compile(r"^(?:\$ )?(?=curl )", re.MULTILINE)
_TASK_ID = re.compile(r"6b05[0-9a-f…]+|\bID\b")
_ANSWERS = {200, 201, 204, 207, 409}
"""409: a page shows what can be done to a task; not each can be done to the same one."""


@dataclass
class Curl:
    """One command."""

    method: str = ""
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None

    @classmethod
    def read(cls, text: str) -> "Curl":
        """The command that the text begins with."""
        curl = cls()
        words = iter(shlex.split(_command(text).replace("\\\n", " "))[1:])
        for word in words:
            if word == "-X":
                curl.method = next(words)
            elif word == "-H":
                name, _, value = next(words).partition(": ")
                curl.headers[name] = value
            elif word == "-d":
                curl.body = next(words)
            elif not re.fullmatch("-[sN]+", word):
                curl.url = word if "://" in word else f"http://{word}"
        curl.method = curl.method or ("GET" if curl.body is None else "POST")
        return curl

    @property
    def path(self) -> URL:
        """What is asked for, with nothing of where."""
        return URL(URL(self.url).raw_path_qs, encoded=True)


def _command(text: str) -> str:
    """Lines until the shell would run them: quotes are closed, and no backslash is at the end."""
    lines: list[str] = []
    for line in text.splitlines():
        lines.append(line)
        command = "\n".join(lines)
        if command.count("'") % 2 == 0 and not line.endswith("\\"):
            return command
    raise ValueError(f"it has no end: {text}")


def _commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        found = _FENCE.findall(page.read_text(encoding="utf-8"))
        blocks = [block for language, block in found if language in {"", "sh"}]
        texts = [text for block in blocks for text in _STARTS.split(block) if text.startswith("curl ")]
        for number, text in enumerate(texts, 1):
            yield f"{page.stem}-{number}", _command(text)


COMMANDS = dict(_commands())


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With the types that the pages submit, and with callbacks."""
    modules = (*settings.task_modules, "tests.fundamentals.greet")
    return load_settings(**{**settings.model_dump(), "task_modules": modules, "callback_secrets": SECRET})


def test_the_pages_have_them() -> None:
    assert len(COMMANDS) >= 25
    assert {"README-1", "callbacks-1", "events-2", "schedules-1", "schedule-1", "get-results-1"} <= set(COMMANDS)


@pytest.mark.parametrize("page", sorted({name.rpartition("-")[0] for name in COMMANDS}))
async def test_a_service_takes_them(page: str, http: Client) -> None:
    for name, command in COMMANDS.items():
        if name.rpartition("-")[0] == page:
            task = await submit(http, type="echo", delay=3_600)
            curl = Curl.read(_TASK_ID.sub(task["id"], command).replace("wait=10", "wait=0"))
            body = curl.body
            if body and curl.path.path == "/tasks":
                body = json.dumps({**json.loads(body), "delay": 3_600})  # it waits, so nothing outside is called
            async with http.request(curl.method, curl.path, headers=curl.headers, data=body) as response:
                assert response.status in _ANSWERS, (name, await response.text())


@pytest.mark.parametrize("name", ["callbacks-1", "get-results-1"])
async def test_the_callback_comes(name: str, http: Client) -> None:
    curl = Curl.read(COMMANDS[name])
    assert curl.body is not None
    async with receiving() as receiver:
        task = await submit(http, **json.loads(curl.body.replace("https://example.com/hook", receiver.url)))
        assert (await wait_for(http, task))["result"] == {"order": 17}
        await wait_until(lambda: receiver.messages)
    assert [message["data"]["id"] for message in receiver.messages] == [task["id"]]


async def test_the_receiver_of_the_page_takes_it(http: Client) -> None:
    """The Python of docs/callbacks.md, on what really arrives."""
    [code] = re.findall(r"^```python\n(.+?)^```", (ROOT / "docs/callbacks.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102
    received = names["received"]
    assert callable(received)
    async with receiving() as receiver:
        task = await submit(http, type="echo", payload={"order": 17}, callback={"url": receiver.url})
        await wait_until(lambda: receiver.messages)
    assert received(SECRET, receiver.bodies[0], receiver.headers[0])["data"]["id"] == task["id"]
