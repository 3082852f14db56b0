"""What every other test relies on does what it says."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockingError

import app
from settings import load_settings
from tests.waiting import wait_until

SLEEP = "import time; time.sleep(0.001)"


async def test_code_of_arqive_may_not_block_the_event_loop() -> None:
    code = compile(SLEEP, str(Path(app.__file__).with_name("blocks.py")), "exec")
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        exec(code)  # noqa: S102 - stands for a module of app


async def test_the_code_of_a_test_may() -> None:
    exec(SLEEP)  # noqa: S102 - the same code, from elsewhere
    time.sleep(0.001)  # noqa: ASYNC251 - blocks on purpose


def test_code_of_arqive_may_block_where_no_event_loop_runs() -> None:
    exec(compile(SLEEP, str(Path(app.__file__).with_name("blocks.py")), "exec"))  # noqa: S102 - stands for a module


@pytest.fixture(scope="module", autouse=True)
def _a_developers_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORT", "4999")
        patch.setenv("queues", "theirs")
        yield


def test_the_developers_environment_does_not_leak_in() -> None:
    assert not {"PORT", "queues", "MONGO_URL", "REDIS_URL"} & set(os.environ)
    assert (load_settings().port, load_settings().queues) == (4000, ("default",))


async def test_waiting_ends_when_the_predicate_is_true() -> None:
    answers = iter([0, "", None, True])
    await wait_until(lambda: next(answers))
    assert list(answers) == []


async def test_waiting_takes_an_async_predicate() -> None:
    answers = iter([False, True])

    async def predicate() -> bool:
        return next(answers)

    await wait_until(predicate)
    assert list(answers) == []


async def test_waiting_in_vain_fails_with_what_was_waited_for() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"not within 0\.05 s: the moon"):
        await wait_until(lambda: False, 0.05, "the moon")
