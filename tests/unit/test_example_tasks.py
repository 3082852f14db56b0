"""The example package, loaded as TASK_MODULES would load it, its handlers called as a worker would call them."""

import ast
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app import Context, Fail, Retry
from app.core.ids import TaskId
from app.core.task_type import TaskType
from app.services.context import HttpAccess
from app.tasks.registry import load_task_modules
from examples.shop import tasks as shop

MODULE = "examples.shop.tasks"
TASK_ID = TaskId("0123456789abcdef01234567")
NO_HTTP = HttpAccess(session=None, guarded=None)  # type: ignore[arg-type]  # no example makes a request


def context(attempt: int = 1) -> Context:
    return Context(task_id=TASK_ID, attempt=attempt, type="example", queue="default", http=NO_HTTP)


def loaded(name: str) -> TaskType:
    return load_task_modules([MODULE])[name]


def checked(name: str, payload: dict[str, Any]) -> Any:
    return loaded(name).payload.validate_python(payload)


def test_the_module_registers_its_types() -> None:
    types = load_task_modules([MODULE])
    names = {"email.send", "report.sales", "payment.charge"}
    assert names <= set(types)
    assert {name for name in names if not types[name].is_async} == {"report.sales"}
    assert all(types[name].summary for name in names)


def test_it_imports_only_what_users_are_promised() -> None:
    tree = ast.parse(Path(shop.__file__).read_text(encoding="utf-8"))
    from_app = [
        (node.module, sorted(alias.name for alias in node.names))
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"app", "settings"}
    ]
    assert from_app == [("app", ["Context", "Fail", "Retry", "task"])]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]


EMAIL = {"to": "ada@example.com", "subject": "Hi", "body": "Dear $name", "values": {"name": "Ada"}}


async def test_an_email_is_rendered_and_named_by_its_task() -> None:
    ctx = context()
    result = await loaded("email.send").handler(ctx, checked("email.send", EMAIL))
    _, [line] = ctx.take()
    assert result == {"message_id": f"<{TASK_ID}@shop.example>"}
    assert line["message"] == f"<{TASK_ID}@shop.example>\nTo: ada@example.com\nSubject: Hi\n\nDear Ada"


async def test_an_email_goes_to_the_mail_server_that_is_plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    async def keep(ctx: Context, message_id: str, text: str) -> None:
        sent.append(message_id)

    monkeypatch.setattr(shop, "deliver", keep)
    for attempt in (1, 2):
        await loaded("email.send").handler(context(attempt), checked("email.send", EMAIL))
    assert sent == [f"<{TASK_ID}@shop.example>"] * 2


@pytest.mark.parametrize("body", ["Dear $nobody", "100 $ 50"])
async def test_an_email_that_cannot_be_rendered_fails_for_good(body: str) -> None:
    with pytest.raises(Fail, match="does not fit its values"):
        await loaded("email.send").handler(context(), checked("email.send", {**EMAIL, "body": body}))


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("email.send", {**EMAIL, "to": "nobody"}),
        ("email.send", {**EMAIL, "to": "a@b\nBcc: c@d"}),
        ("email.send", {**EMAIL, "subject": "a\nBcc: c@d"}),
        ("email.send", {**EMAIL, "cc": "x@y"}),
        ("report.sales", {}),
        ("report.sales", {"rows": [{"product": "tea", "quantity": 0, "price_cents": 1}]}),
        ("payment.charge", {"card": "any", "cents": -1}),
    ],
)
def test_bad_payloads_are_refused(name: str, payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        checked(name, payload)


def sales(count: int) -> Any:
    rows = [{"product": f"p{n % 3}", "quantity": 1 + n % 3, "price_cents": 100} for n in range(count)]
    return checked("report.sales", {"rows": rows, "top": 2})


def test_a_report_adds_up_and_tells_how_far_it_is() -> None:
    ctx = context()
    told: list[float] = []

    def on_report() -> None:
        progress, _ = ctx.take()
        assert progress is not None
        told.append(progress["value"])

    ctx.on_report(on_report)
    assert loaded("report.sales").handler(ctx, sales(300)) == {
        "total_cents": 60_000,
        "top": [{"product": "p2", "earned_cents": 30_000}, {"product": "p1", "earned_cents": 20_000}],
    }
    assert told == [100 / 300, 200 / 300, 1]


def test_a_report_of_nothing_is_nothing() -> None:
    assert loaded("report.sales").handler(context(), sales(0)) == {"total_cents": 0, "top": []}


def test_a_report_ends_when_it_is_cancelled() -> None:
    ctx = context()
    ctx.on_report(ctx.stop)
    with pytest.raises(Retry, match="stopped"):
        loaded("report.sales").handler(ctx, sales(300))
    progress, _ = ctx.take()
    assert progress is not None
    assert progress["value"] == pytest.approx(1 / 3)


async def test_a_payment_is_tried_again_while_the_bank_is_busy() -> None:
    handler, payment = loaded("payment.charge").handler, checked("payment.charge", {"card": "busy", "cents": 5})
    for attempt in (1, 2):
        with pytest.raises(Retry, match="busy") as caught:
            await handler(context(attempt), payment)
        assert caught.value.delay == 2
    assert await handler(context(3), payment) == {"receipt": "receipt-01234567"}


async def test_a_declined_card_is_not_tried_again() -> None:
    with pytest.raises(Fail, match="declined"):
        await loaded("payment.charge").handler(context(), checked("payment.charge", {"card": "declined", "cents": 5}))
