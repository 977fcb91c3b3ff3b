"""Where a client is: behind proxies that are trusted, what they say of it.

Each proxy adds who it was called by to the right of ``X-Forwarded-For``; whatever stands further left came with the
request and may be made up. So the client is the right-most address that is no trusted proxy's. ``Forwarded``
(RFC 7239) is not read: a proxy that writes one of the two passes the other on as its client made it up.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

FORWARDED_FOR: Final = "X-Forwarded-For"
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""How an IPv6 address begins that stands for an IPv4 one (RFC 4291 §2.5.5.2)."""


class TrustedProxies:
    """The networks of proxies whose word counts; none by default."""

    def __init__(self, networks: Collection[str]) -> None:
        self._networks = [ip_network(network) for network in networks]

    def client_of(self, peer: str | None, forwarded_for: Iterable[str]) -> str:
        """The address of the client; empty if the peer has none. ``forwarded_for``: each line of the header, in order.

        Where a trusted proxy hides its client or writes what is no address, the proxy itself is the nearest known.
        """
        if peer is None or not self._networks:
            return peer or ""
        nearest = _parse(peer)
        if nearest is None:
            return peer
        hops = ",".join(forwarded_for).split(",")
        while hops and self._trusts(nearest):
            further = _parse(hops.pop())
            if further is None:
                break
            nearest = further
        return str(nearest)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def counted_as(address: str) -> str:
    """What clients are counted by: an IPv4 address, or the /64 of an IPv6 one, which is the least that anybody gets."""
    if ":" not in address:
        return address
    # A tenth of what the module of addresses takes, for every handshake.
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return address
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed.removeprefix(_MAPPED))
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it: perhaps with a port, in brackets, or of IPv4 in the clothes of IPv6."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
