"""Judges a MongoDB connection string before anything is started with it."""

import warnings
from urllib.parse import parse_qsl, urlsplit

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from app.core.errors import BadServerUrl

DNS_MS = 5_000
"""How long the name of a `mongodb+srv://` URL may take to resolve."""

_SECRET_OPTIONS = frozenset({"authmechanismproperties", "tlscertificatekeyfilepassword", "proxypassword"})
"""What the driver says about these may show their values."""


def check_mongo_url(url: str) -> None:
    """Return when the driver can use the URL; its servers need not be there, the name of a `mongodb+srv://` URL must.

    The driver itself would only warn of an unknown option and go on without it, and would look the name up when the
    service has long said that it is there.

    Args:
        url: The connection string.

    Raises:
        BadServerUrl: it cannot; one line that names MONGO_URL and shows no secret.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client that is used warns as well
        try:
            parse_uri(url, warn=False, connect_timeout=DNS_MS)
            # It connects to nothing, but reads what the options name, such as certificates.
            MongoClient(url, connect=False).close()
        except (PyMongoError, ValueError, TypeError, OSError) as error:
            raise BadServerUrl("MONGO_URL", _said(url, error)) from error


def _said(url: str, error: Exception) -> str:
    options = {name.lower() for name, _ in parse_qsl(urlsplit(url).query)}
    if options & _SECRET_OPTIONS:
        return "the driver does not accept it: an option is not known or has a bad value"
    said = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    return said or type(error).__name__
