"""`arqive keys new`: makes an API key and the entry that lets it in."""

import sys
from typing import Annotated

import typer

from app.commands.session import resource
from app.core.api_keys import Scope, entry_of, new_key

commands = resource("Make API keys.")

_BAD_ARGUMENT = 2


@commands.command()
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Who will have it; for logs and messages.", show_default=False)
    ],
    scope: Annotated[Scope, typer.Option(help="What it allows.")],
    rate: Annotated[float | None, typer.Option(metavar="N", help="Requests per second on each web process.")] = None,
) -> int:
    """Make a key and print it with its entry for API_KEYS; nothing is kept anywhere.

    The entry goes to standard output and the key to standard error: `>> FILE` keeps the one and shows the other.
    """
    # Not the settings themselves: they may name a file of keys that this is to fill.
    from settings import MAX_RATE, MIN_RATE, parse_entries  # noqa: PLC0415 - not for the help and the completion

    key = new_key()
    entry = entry_of(name, scope, key) + ("" if rate is None else f":rate={rate:g}")
    try:
        parse_entries(entry)
    except ValueError:
        print(
            f"arqive: {name!r} with rate {rate} cannot be a key: a name has up to 64 letters, digits and _ . -, and a "
            f"rate is 0 for none or a number of requests from {MIN_RATE} to {MAX_RATE:,}",
            file=sys.stderr,
        )
        return _BAD_ARGUMENT
    print(f"The key, shown this once; whoever calls sends it as `Authorization: Bearer KEY`:\n{key}", file=sys.stderr)
    print("Its entry, for API_KEYS or as a line of the file that API_KEYS_FILE names:", file=sys.stderr, flush=True)
    print(entry)
    return 0
