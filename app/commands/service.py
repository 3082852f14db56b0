"""`arqive types`, `stats` and `workers`: what the service tells about itself."""

import typer

from app.commands.session import Session, service_command

types = typer.Typer(add_completion=False)
stats = typer.Typer(add_completion=False)
workers = typer.Typer(add_completion=False)


@service_command(types, "types")
async def list_types(session: Session) -> None:
    """List the task types that can be submitted."""
    from app.commands.service_view import TYPES  # noqa: PLC0415 - not for the help and the completion

    await session.output.items(await session.client.types(), TYPES, empty="The service knows no type.")


@service_command(workers, "workers")
async def list_workers(session: Session) -> None:
    """List the workers that are alive."""
    from app.commands.service_view import WORKERS  # noqa: PLC0415 - as above

    await session.output.items(await session.client.workers(), WORKERS, empty="No worker is alive.")


@service_command(stats, "stats")
async def show_stats(session: Session) -> None:
    """Count tasks, queues and workers."""
    from app.commands.service_view import show_stats  # noqa: PLC0415 - as above

    show_stats(session.output, await session.client.stats())
