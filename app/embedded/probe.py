"""Asks a process of Arqive whether it is ready."""

import http.client
import ipaddress
from dataclasses import dataclass

_SHOWN = 300  # characters of an answer


@dataclass(frozen=True, slots=True)
class Readiness:
    """What `/health/ready` said.

    Attributes:
        listening: Whether anything listens there.
        ready: Whether it answered 200.
        detail: One line for a person.
    """

    listening: bool
    ready: bool
    detail: str


def local_address(host: str) -> str:
    """The address by which this machine reaches what listens on `host`: loopback for "all addresses"."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "::1" if address.version == 6 else "127.0.0.1"


def base_url(address: str, port: int) -> str:
    """The URL of what listens there."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def ask_readiness(address: str, port: int, *, timeout_s: float = 3.0) -> Readiness:
    """GET /health/ready, blocking for at most `timeout_s` seconds at each step; never raises."""
    url = base_url(address, port)
    connection = http.client.HTTPConnection(address, port, timeout=timeout_s)
    try:
        connection.request("GET", "/health/ready", headers={"Connection": "close"})
        response = connection.getresponse()
        status, body = response.status, response.read(4 * _SHOWN)
    except ConnectionRefusedError:
        return Readiness(listening=False, ready=False, detail=f"nothing listens on {url}")
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        return Readiness(listening=True, ready=False, detail=f"{url} does not answer: {reason}")
    finally:
        connection.close()
    if status == http.HTTPStatus.OK:
        return Readiness(listening=True, ready=True, detail=f"{url} is ready")
    said = " ".join(body.decode(errors="replace").split())[:_SHOWN]
    return Readiness(listening=True, ready=False, detail=f"{url} is not ready, it answered {status}: {said}")
