"""Which addresses are public, private and link-local, in every notation that carries them."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.addresses import AddressKind, classify_address

PUBLIC_V4 = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0",
             "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "223.255.255.255"]  # fmt: skip
PRIVATE_V4 = ["0.0.0.0", "0.255.255.255", "10.0.0.1", "10.255.255.255", "127.0.0.1", "127.255.255.254", "172.16.0.1",
              "172.31.255.255", "192.168.0.1", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255",
              "198.51.100.7", "203.0.113.7", "100.64.0.1", "100.127.255.255", "224.0.0.1", "239.255.255.250",
              "240.0.0.1", "255.255.255.255"]  # fmt: skip
LINK_LOCAL_V4 = ["169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255", "100.100.100.200", "192.0.0.192",
                 "168.63.129.16"]  # fmt: skip
V4 = [
    *((address, AddressKind.PUBLIC) for address in PUBLIC_V4),
    *((address, AddressKind.PRIVATE) for address in PRIVATE_V4),
    *((address, AddressKind.LINK_LOCAL) for address in LINK_LOCAL_V4),
]
V6 = [
    ("2606:4700:4700::1111", AddressKind.PUBLIC),
    ("2a00:1450:4001:81b::200e", AddressKind.PUBLIC),
    ("::", AddressKind.PRIVATE),
    ("::1", AddressKind.PRIVATE),
    ("fc00::1", AddressKind.PRIVATE),
    ("fdff::1", AddressKind.PRIVATE),
    ("fec0::1", AddressKind.PRIVATE),
    ("ff02::1", AddressKind.PRIVATE),
    ("2001:db8::1", AddressKind.PRIVATE),
    ("3fff::1", AddressKind.PRIVATE),
    ("2001:10::1", AddressKind.PRIVATE),
    ("100::1", AddressKind.PRIVATE),
    ("4000::1", AddressKind.PRIVATE),
    ("64:ff9b:1::808:808", AddressKind.PRIVATE),
    ("fe80::1", AddressKind.LINK_LOCAL),
    ("febf::1", AddressKind.LINK_LOCAL),
    ("fe80::1%eth0", AddressKind.LINK_LOCAL),
    ("fe80::1%25eth0", AddressKind.LINK_LOCAL),
    ("fd00:ec2::254", AddressKind.LINK_LOCAL),
    ("fd00:ec2::23", AddressKind.LINK_LOCAL),
    ("fd20:ce::254", AddressKind.LINK_LOCAL),
    ("fd00:42::42", AddressKind.LINK_LOCAL),
    ("fd00:c1::a9fe:a9fe", AddressKind.LINK_LOCAL),
]


@pytest.mark.parametrize(("address", "kind"), V4 + V6)
def test_an_address_has_its_kind(address: str, kind: AddressKind) -> None:
    assert classify_address(address) is kind


def carriers(inner: IPv4Address) -> dict[str, IPv6Address]:
    """Every IPv6 form whose packets may end up at an IPv4 address."""
    bits = int(inner)
    return {
        "mapped": IPv6Address((0xFFFF << 32) | bits),
        "translated": IPv6Address((0xFFFF << 48) | bits),
        "nat64": IPv6Address((0x0064_FF9B << 96) | bits),
        "6to4": IPv6Address((0x2002 << 112) | (bits << 80) | 1),
        "teredo client": IPv6Address((0x2001_0000 << 96) | (int(IPv4Address("8.8.8.8")) << 64) | (bits ^ 0xFFFF_FFFF)),
        "teredo server": IPv6Address((0x2001_0000 << 96) | (bits << 64) | (int(IPv4Address("8.8.8.8")) ^ 0xFFFF_FFFF)),
    }


@pytest.mark.parametrize(("address", "kind"), V4)
def test_an_ipv4_address_keeps_its_kind_inside_ipv6(address: str, kind: AddressKind) -> None:
    for form, carrier in carriers(IPv4Address(address)).items():
        assert classify_address(str(carrier)) is kind, form


@pytest.mark.parametrize("address", ["::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::169.254.169.254"])
def test_mapped_metadata_is_link_local_in_each_notation(address: str) -> None:
    assert classify_address(address) is AddressKind.LINK_LOCAL


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "1.2.3.4:80"])
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        classify_address(text)


@given(st.ip_addresses(v=4).filter(lambda address: address.is_private or address.is_multicast or address.is_reserved))
def test_what_python_calls_private_is_never_public_v4(address: IPv4Address) -> None:
    assert classify_address(str(address)) is not AddressKind.PUBLIC


@given(st.ip_addresses(v=6))
def test_an_ipv6_address_outside_global_unicast_is_public_only_for_what_it_carries(address: IPv6Address) -> None:
    if classify_address(str(address)) is AddressKind.PUBLIC:
        inside = address in IPv6Network("2000::/3")
        carried = int(address) >> 32 in {0, 0xFFFF, 0xFFFF_0000, 0x0064_FF9B << 64}
        assert inside or carried
