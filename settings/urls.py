"""Checks the URLs of servers before a driver does: a driver's error may show a part of the password."""

import re

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]@/]+)(:[0-9]{1,5})?")
_USER = re.compile(r"([^\s:@/?#\[\]%]|%[0-9A-Fa-f]{2})*(:([^\s:@/?#\[\]%]|%[0-9A-Fa-f]{2})*)?")


def check_server_url(url: str, *, schemes: tuple[str, ...]) -> None:
    """Return when the URL has one of the schemes, sound credentials, if any, and hosts with numbers for ports.

    Args:
        url: May name several hosts, with commas between.
        schemes: Without `://`.

    Raises:
        ValueError: it has not; the text shows nothing of it.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme not in schemes:
        raise ValueError("must start with " + ", ".join(f"{each}://" for each in schemes))
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, found, hosts = authority.rpartition("@")
    if (not found and "@" in rest) or not _USER.fullmatch(user):
        raise ValueError("the user name and the password must be percent-encoded, such as %40 for @ and %2F for /")
    if hosts and not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        raise ValueError("must name hosts, each with a number for its port if it has one")
