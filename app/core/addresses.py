"""Classifies IP addresses: is this one on the public internet, inside somebody's network, or next to the machine?

The tables are our own rather than `ipaddress`'s `is_private` and `is_global`: their answers have changed between patch
releases of Python, and they know nothing of the clouds' metadata addresses.

Source: the IANA special-purpose address registries (RFC 6890 and its updates) and the clouds' own documentation.
"""

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address


class AddressKind(StrEnum):
    """Who can be reached at an address."""

    PUBLIC = "public"  # anybody: a globally routed unicast address
    PRIVATE = "private"  # the machine itself, its network, or nobody at all: loopback, private, multicast, reserved
    LINK_LOCAL = "link-local"  # what sits beside the machine, above all a cloud's metadata service with its credentials


_LINK_LOCAL_V4 = (
    IPv4Network("169.254.0.0/16"),  # link-local; 169.254.169.254 is nearly every cloud's metadata service
    IPv4Network("100.100.100.200/32"),  # metadata, Alibaba Cloud
    IPv4Network("168.63.129.16/32"),  # Azure's platform service, in a range that looks public
    IPv4Network("192.0.0.192/32"),  # metadata, Oracle Cloud
)
_PRIVATE_V4 = (
    IPv4Network("0.0.0.0/8"),  # "this network"; 0.0.0.0 connects to loopback on Linux
    IPv4Network("10.0.0.0/8"),
    IPv4Network("100.64.0.0/10"),  # shared by carriers' NAT, and by some clusters and VPNs
    IPv4Network("127.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.0.2.0/24"),  # documentation
    IPv4Network("192.88.99.0/24"),  # 6to4 relays, withdrawn
    IPv4Network("192.168.0.0/16"),
    IPv4Network("198.18.0.0/15"),  # benchmarks
    IPv4Network("198.51.100.0/24"),  # documentation
    IPv4Network("203.0.113.0/24"),  # documentation
    IPv4Network("224.0.0.0/4"),  # multicast
    IPv4Network("240.0.0.0/4"),  # reserved, and the broadcast address
)

_LINK_LOCAL_V6 = (
    IPv6Network("fe80::/10"),
    IPv6Network("fd00:ec2::/32"),  # AWS: metadata ::254, credentials of pods ::23, name server ::253
    IPv6Network("fd20:ce::254/128"),  # metadata, Google Cloud
    IPv6Network("fd00:42::42/128"),  # metadata, Scaleway
    IPv6Network("fd00:c1::a9fe:a9fe/128"),  # metadata, Oracle Cloud
)
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")  # nothing outside it is routed on the internet
_PRIVATE_V6 = (
    IPv6Network("2001::/23"),  # protocol assignments
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("3fff::/20"),  # documentation
)

_EMBEDDING_V6 = (
    IPv6Network("::/96"),  # IPv4-compatible, withdrawn; :: and ::1 are private as 0.0.0.0 and 0.0.0.1 are
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped: the socket connects to the IPv4 address
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated (RFC 2765)
    IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052)
)
_WORST_FIRST = (AddressKind.LINK_LOCAL, AddressKind.PRIVATE, AddressKind.PUBLIC)


def classify_address(text: str) -> AddressKind:
    """The kind of one address, by the worst of itself and any IPv4 address that it carries.

    An IPv4 address inside an IPv6 one (mapped, compatible, translated, NAT64, 6to4, Teredo) is where the packets may
    end up, so it counts. NAT64 prefixes that a network chose for itself cannot be told from other addresses.

    Args:
        text: An address as a resolver or `getpeername` gives it; an IPv6 scope (`%eth0`) may follow.

    Raises:
        ValueError: this is not an address in its usual notation.
    """
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return _classify_v4(address)
    address = IPv6Address(int(address))  # without its scope, which would make it unlike any network's
    if any(address in network for network in _LINK_LOCAL_V6):
        return AddressKind.LINK_LOCAL
    embedded = {_classify_v4(inner) for inner in _embedded_v4(address)}
    if embedded:
        return next(kind for kind in _WORST_FIRST if kind in embedded)
    if address not in _GLOBAL_UNICAST_V6 or any(address in network for network in _PRIVATE_V6):
        return AddressKind.PRIVATE
    return AddressKind.PUBLIC


def _classify_v4(address: IPv4Address) -> AddressKind:
    if any(address in network for network in _LINK_LOCAL_V4):
        return AddressKind.LINK_LOCAL
    if any(address in network for network in _PRIVATE_V4):
        return AddressKind.PRIVATE
    return AddressKind.PUBLIC


def _embedded_v4(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address stands for or is tunnelled through."""
    if any(address in network for network in _EMBEDDING_V6):
        return (IPv4Address(int(address) & 0xFFFF_FFFF),)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    return address.teredo or ()
