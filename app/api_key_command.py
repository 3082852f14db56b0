"""`arqive keys new`: makes an API key and the entry that lets it in."""

import sys

from app.core.api_keys import Scope, entry_of, new_key
from settings import MAX_RATE, MIN_RATE, parse_entries

_BAD_ARGUMENT = 2


def make_key(name: str, scope: str, *, rate: float | None = None) -> int:
    """Print a new key and its entry for API_KEYS; nothing is kept anywhere. The exit code.

    The entry goes to standard output and the key to standard error: `>> FILE` keeps the one and shows the other.

    Args:
        name: Who will have it; for logs and messages.
        scope: read, write or admin.
        rate: Requests per second that it may make on each web process; None takes API_KEY_RATE.
    """
    key = new_key()
    entry = entry_of(name, Scope(scope), key) + ("" if rate is None else f":rate={rate:g}")
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
