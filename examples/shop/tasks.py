"""The task types of a small shop: an e-mail, a report, a payment.

Nothing here needs an account anywhere: the e-mail goes to the task's log and the bank is pretended.
`examples/README.md` says how to run them.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from string import Template

from pydantic import BaseModel, ConfigDict, Field

from app import Context, Fail, Retry, task

# --- an e-mail: a coroutine with a model as its payload


class Email(BaseModel):
    """An e-mail to a customer; `body` may use the `values` as `$name`."""

    model_config = ConfigDict(extra="forbid")

    to: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)
    subject: str = Field(pattern=r"^[^\r\n]+$", max_length=200)
    body: str
    values: dict[str, str] = Field(default_factory=dict)


async def log_instead(ctx: Context, message_id: str, text: str) -> None:
    """Stands in for a mail server."""
    ctx.log(f"{message_id}\n{text}")


deliver: Callable[[Context, str, str], Awaitable[None]] = log_instead
"""Replace this with what talks to your mail server."""


@task("email.send", max_attempts=5, timeout=30)
async def send_email(ctx: Context, email: Email) -> dict[str, str]:
    """Send one e-mail.

    A task may run more than once, so the message is named by the task: a mail server that has seen the name drops the
    second copy.
    """
    try:
        text = Template(email.body).substitute(email.values)
    except (KeyError, ValueError) as error:
        raise Fail(f"the body does not fit its values: {error}") from error
    message_id = f"<{ctx.task_id}@shop.example>"
    await deliver(ctx, message_id, f"To: {email.to}\nSubject: {email.subject}\n\n{text}")
    return {"message_id": message_id}


# --- a report: ordinary code that computes, so it runs in a thread


class Sale(BaseModel):
    """One line of an order."""

    product: str
    quantity: int = Field(ge=1)
    price_cents: int = Field(ge=0)


class Sales(BaseModel):
    """What the report is about."""

    model_config = ConfigDict(extra="forbid")

    rows: list[Sale] = Field(max_length=10_000)
    top: int = Field(3, ge=1, le=100)


REPORT_EVERY = 100  # rows


@task("report.sales", timeout=300)
def report_sales(ctx: Context, sales: Sales) -> dict[str, object]:
    """Add up sales and name the products that earned most."""
    earned: Counter[str] = Counter()
    for number, row in enumerate(sales.rows, start=1):
        if ctx.cancelled:  # a thread cannot be interrupted: it has to look, and only has to end
            raise Retry(reason="stopped before the end")
        earned[row.product] += row.quantity * row.price_cents
        if number % REPORT_EVERY == 0 or number == len(sales.rows):
            ctx.progress(number / len(sales.rows), f"{number} of {len(sales.rows)} rows")
    best = sorted(earned.items(), key=lambda item: (-item[1], item[0]))[: sales.top]
    return {
        "total_cents": earned.total(),
        "top": [{"product": product, "earned_cents": cents} for product, cents in best],
    }


# --- a payment: says itself which failures are worth another attempt


class Payment(BaseModel):
    """A charge to a card. The card `declined` is always refused; `busy` finds the bank busy twice, then works."""

    model_config = ConfigDict(extra="forbid")

    card: str = Field(min_length=1, max_length=100)
    cents: int = Field(gt=0, le=1_000_000)


class BankBusyError(Exception):
    """The bank asks to come back later."""


class CardDeclinedError(Exception):
    """The bank will not pay, now or later."""


async def ask_bank(payment: Payment, *, key: str, attempt: int) -> str:
    """Stands in for a payment service; `key` is what it would recognise a repeated request by."""
    if payment.card == "declined":
        raise CardDeclinedError
    if payment.card == "busy" and attempt < 3:
        raise BankBusyError
    return f"receipt-{key[-8:]}"


@task("payment.charge", max_attempts=10, timeout=20)
async def charge(ctx: Context, payment: Payment) -> dict[str, str]:
    """Charge a card once, however often the task runs."""
    try:
        receipt = await ask_bank(payment, key=ctx.task_id, attempt=ctx.attempt)
    except CardDeclinedError as error:
        raise Fail("the card was declined") from error
    except BankBusyError as error:
        raise Retry(2, "the bank is busy") from error
    return {"receipt": receipt}
