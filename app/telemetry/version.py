"""Which Arqive this is."""

from importlib import metadata


def _version() -> str:
    try:
        return metadata.version("arqive")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


VERSION = _version()
"""Read at import: looking it up reads files, which would block the loop."""
