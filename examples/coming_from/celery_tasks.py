"""A Celery task as a task: arguments become a model, `self.retry` becomes an exception."""

from pydantic import BaseModel

from app import Backoff, Context, Retry, task


class Invoice(BaseModel):
    """The invoice to send; what was positional gets names that GET /types shows."""

    number: int
    customer: str


class PrinterBusyError(Exception):
    """Somebody else prints."""


@task("invoice.print", max_attempts=4, timeout=120, backoff=Backoff(jitter=False))
def print_invoice(ctx: Context, invoice: Invoice) -> dict[str, str]:
    """Print an invoice; an ordinary function runs in a thread."""
    try:
        sheet = use_printer(invoice, attempt=ctx.attempt)
    except PrinterBusyError as error:
        raise Retry(0.2, "the printer is busy") from error
    return {"sheet": sheet}


def use_printer(invoice: Invoice, *, attempt: int) -> str:
    """Stands in for a printer that is busy at first."""
    if attempt == 1:
        raise PrinterBusyError
    return f"{invoice.customer}-{invoice.number}"
