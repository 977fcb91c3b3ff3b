"""The check of addresses."""

from __future__ import annotations

import socket

import pytest

from gateway.webhooks.addresses import AddressCheck, AddressRejected, is_own_address

OWN_PORT = 8080


def check(host: str, port: int = 443, *, plain: bool = False, insecure: bool = False) -> str | None:
    """Return why a socket for an address is not created, None if it is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    rest = (0, 0) if ":" in host else ()
    addresses = AddressCheck(plain=plain, insecure=insecure, own_ports=lambda: {OWN_PORT})
    try:
        addresses((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, *rest))).close()
    except AddressRejected as error:
        return str(error).removeprefix("requests are never sent to ")
    return None


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "169.254.0.1", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
     "fd00:ec2::254"],
)  # fmt: skip
def test_metadata_services_are_never_reached(host: str) -> None:
    assert check(host, insecure=True) == "a link-local address, as metadata services have"


@pytest.mark.parametrize("host", ["224.0.0.1", "239.1.2.3", "ff02::1", "::ffff:224.0.0.1"])
def test_multicast_is_never_sent(host: str) -> None:
    assert check(host, insecure=True) == "a multicast address"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_unspecified_address_is_never_used(host: str) -> None:
    assert check(host, insecure=True) == "the unspecified address"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_own_port_is_never_reached_on_a_loopback_address(host: str) -> None:
    assert check(host, OWN_PORT) == "a port of this gateway"
    assert check(host, OWN_PORT + 1) is None


def test_own_port_is_never_reached_on_an_address_of_this_machine() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        own = probe.getsockname()[0]

    assert check(own, OWN_PORT) == "a port of this gateway"
    assert check("198.51.100.7", OWN_PORT) is None


def test_other_machine_is_no_address_of_this_one() -> None:
    from ipaddress import ip_address

    assert not is_own_address(ip_address("198.51.100.7"))


@pytest.mark.parametrize(
    "host", ["10.0.0.7", "172.16.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "::1", "fd12::1"]
)
def test_plain_http_reaches_private_addresses(host: str) -> None:
    assert check(host, plain=True) is None


@pytest.mark.parametrize("host", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"])
def test_plain_http_reaches_public_addresses_only_if_that_is_set(host: str) -> None:
    assert check(host, plain=True) == "a public address over http: use https"
    assert check(host, plain=True, insecure=True) is None
    assert check(host) is None
