"""The check of the address at the moment of the connection, so that no answer of DNS can change it afterwards."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]

_NAT64: Final = ip_network("64:ff9b::/96")
"""RFC 6052 §2.1: the last 32 bits are an IPv4 address."""
_METADATA: Final = ip_address("fd00:ec2::254")
"""The metadata service of AWS, the only one with an IPv6 address that is not link-local."""


class AddressRejected(OSError):
    """A name resolves to an address that requests are never sent to."""


class AddressCheck:
    """Creates the sockets of one webhook, unless their address is forbidden; for ``TCPConnector(socket_factory=…)``."""

    def __init__(self, *, plain: bool, insecure: bool, own_ports: Callable[[], Collection[int]]) -> None:
        """``plain``: the URL begins with ``http:``. ``own_ports`` are the ports that this process listens on."""
        self._only_private = plain and not insecure
        self._own_ports = own_ports

    def __call__(self, info: AddressInfo) -> socket.socket:
        """Return a socket for an address.

        Raises: AddressRejected.
        """
        family, kind, protocol, _, (host, port, *_rest) = info
        reason = self._objection(str(host), int(port))
        if reason is not None:
            raise AddressRejected(f"requests are never sent to {reason}")
        return socket.socket(family, kind, protocol)

    def _objection(self, host: str, port: int) -> str | None:
        address = embedded_address(ip_address(host))
        if address.is_link_local or address == _METADATA:
            return "a link-local address, as metadata services have"
        if address.is_multicast:
            return "a multicast address"
        if address.is_unspecified:
            return "the unspecified address"
        if self._only_private and address.is_global:
            return "a public address over http: use https"
        if port in self._own_ports() and is_own_address(address):
            return "a port of this gateway"
        return None


def embedded_address(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, else the address."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_own_address(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address belongs to this machine: then it is also the source of packets to it."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # of UDP: it chooses the source and sends nothing
            return ip_address(probe.getsockname()[0]) == address
    except OSError:
        return False
