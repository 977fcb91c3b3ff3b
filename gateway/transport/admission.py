"""Which handshakes are admitted: by rate, by the number of connections, and not while the replica drains.

The address of a client comes from ``X-Forwarded-For`` where trusted proxies are in front of the gateway. Each proxy
appends the address of its peer on the right; everything further left came with the request and may be forged. So the
client is the right-most address that is not a trusted proxy's. ``Forwarded`` (RFC 7239) is not read: a proxy that
writes one of the two headers passes the other on as its client forged it.

Rates are limited for the replica and for each client address. An address of a private network may be that of a proxy in
front of all clients, and is limited only if the operator asks for it. The number of addresses that are kept is bounded,
and an address is forgotten once its bucket is full again.

At a limit of connections a client that has long joined no namespace makes room (``unauthenticated``).
"""

from __future__ import annotations

import math
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, Protocol
from urllib.parse import unquote

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from gateway.domain.rate_limit import FULL, KeyRates, take_token, wait_seconds
from gateway.interfaces import Clock
from gateway.metrics import MetricFactory
from gateway.transport.errors import HandshakeError, unavailable

FORWARDED_FOR: Final = "X-Forwarded-For"
ADDRESS_BURST_SECONDS: Final = 20.0
"""The burst of an address in seconds of its rate: the users of one office reconnect at the same moment."""
DEFAULT_ADDRESS_RATE: Final = 100.0
"""Handshakes each second of one address that is surely no proxy's; its burst is 2 000."""
MAX_ADDRESSES: Final = 65_536
"""About 8 MB. Beyond it the buckets not used for the longest are removed early; CONNECT_RATE still limits all."""
_CACHED_ADDRESSES: Final = 1024
"""How many answers of ``may_be_proxy`` are kept: behind a proxy that is not trusted, all clients have its address."""
MAX_HOPS: Final = 32
"""How many addresses of ``X-Forwarded-For`` are read, the right-most ones: a client may write thousands."""
_PRIVATE: Final = tuple(
    ip_network(network)
    for network in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
        *("100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),  # RFC 6598, RFC 1122, RFC 3927
        *("fc00::/7", "fe80::/10", "::1/128"),  # RFC 4193, RFC 4291
    )
)
_SCHEMES: Final = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
"""The values of ``X-Forwarded-Proto``; some proxies write those of WebSockets."""
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""Prefix of an IPv6 address that is mapped from an IPv4 address (RFC 4291 §2.5.5.2)."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What is kept of the request that opened a session."""

    authorization: str | None
    query_token: str | None
    address: str
    """Address of the client, as far as it is known."""
    declines_recovery: bool = False  # the query asks not to be given positions
    cookie_token: str | None = None


def read_handshake(
    headers: CIMultiDictProxy[str], query: Mapping[str, str], *, address: str, token_cookie: str | None
) -> Handshake:
    """Return what is kept of a request. ``token_cookie``: the name of the cookie that may hold the token."""
    return Handshake(
        authorization=headers.get(hdrs.AUTHORIZATION),
        query_token=query.get("token"),
        declines_recovery=query.get("recovery") == "0",
        address=address,
        cookie_token=_find_cookie(headers.getall(hdrs.COOKIE, []), token_cookie),
    )


def _find_cookie(headers: Sequence[str], name: str | None) -> str | None:
    """Return the value of the first cookie of this name that has one. Its quotes and percent-encoding are removed."""
    for header in headers if name is not None else ():
        for pair in header.split(";"):
            key, _, value = pair.partition("=")
            text = unquote(value.strip().strip('"'))
            if key.strip() == name and text:
                return text
    return None


class TrustedProxies:
    """The networks of the proxies whose ``X-Forwarded-For`` is believed; none by default."""

    def __init__(self, networks: Collection[str]) -> None:
        self._networks = [ip_network(network) for network in networks]

    def client_of(self, peer: str | None, forwarded_for: Iterable[str]) -> str:
        """Return the address of the client, or "" if the peer has none.

        ``forwarded_for``: each line of the header, in order. Where a trusted proxy hides its client or writes something
        that is no address, the address of that proxy is returned. After MAX_HOPS trusted ones, it is the last of these.
        """
        if peer is None or not self._networks:
            return peer or ""
        nearest = _parse(peer)
        if nearest is None:
            return peer
        hops = ",".join(forwarded_for).rsplit(",", MAX_HOPS)[-MAX_HOPS:]
        while hops and self._trusts(nearest):
            further = _parse(hops.pop())
            if further is None:
                break
            nearest = further
        return str(nearest)

    def requested_host(self, peer: str | None, headers: CIMultiDictProxy[str]) -> tuple[str, str | None]:
        """Return the host that the client asked for, and ``http`` or ``https`` if a trusted proxy names it.

        A trusted proxy may write both into ``X-Forwarded-Host`` and ``X-Forwarded-Proto``. A header with several values
        is ignored: a client may have made up any of them.
        """
        host, scheme = headers.get(hdrs.HOST, ""), None
        nearest = _parse(peer) if peer is not None and self._networks else None
        if nearest is not None and self._trusts(nearest):
            host = _only_value(headers, "X-Forwarded-Host") or host
            scheme = _SCHEMES.get(_only_value(headers, "X-Forwarded-Proto").lower())
        return host, scheme

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def rate_limit_key(address: str) -> str:
    """Return the key under which a client address is counted: an IPv4 address, or the /64 network of an IPv6 address.

    A /64 is the smallest network that a provider assigns.
    """
    if ":" not in address:
        return address
    # Runs for every handshake and takes a tenth of the time that ``ipaddress`` takes.
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return address
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed.removeprefix(_MAPPED))
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"


@lru_cache(maxsize=_CACHED_ADDRESSES)
def may_be_proxy(address: str) -> bool:
    """Whether all clients may have this address, because it is that of a proxy which ``TRUSTED_PROXIES`` lacks.

    So may an address of a private network, and one that cannot be read. Others come from ``X-Forwarded-For`` of a
    trusted proxy, or belong to a host that reaches the gateway through the internet.
    """
    parsed = _parse(address)
    return parsed is None or any(parsed in network for network in _PRIVATE)


def _only_value(headers: CIMultiDictProxy[str], name: str) -> str:
    values = ",".join(headers.getall(name, ())).split(",")
    return values[0].strip() if len(values) == 1 else ""


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address as proxies write it: with or without a port or brackets, perhaps mapped from IPv4 to IPv6."""
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


class AddressRates:
    """One bucket for each address of a client, with a burst of ADDRESS_BURST_SECONDS."""

    def __init__(self, clock: Clock, connects_per_second: float) -> None:
        self._clock = clock
        self.seconds_each = 1 / connects_per_second
        self._rates = KeyRates(
            per_second=connects_per_second,
            burst=max(1.0, ADDRESS_BURST_SECONDS * connects_per_second),
            max_keys=MAX_ADDRESSES,
            now=clock.monotonic(),
        )

    def __len__(self) -> int:
        return len(self._rates)

    def allow(self, address: str) -> bool:
        """Whether the bucket of the address has a token; takes none."""
        return self._rates.wait_seconds(rate_limit_key(address), self._clock.monotonic()) == 0

    def consume(self, address: str) -> None:
        """Take one token from the bucket of the address."""
        self._rates.take(rate_limit_key(address), self._clock.monotonic())


@dataclass(frozen=True, kw_only=True, slots=True)
class AdmissionLimits:
    """Limits of one replica; None is off. A client is unauthenticated until it has joined a namespace.

    ``limits_any_address``: whether the rate of an address also applies to one that ``may_be_proxy``.
    """

    max_connections: int | None = None
    max_unauthenticated: int | None = None
    connects_per_second: float | None = None
    connects_per_second_and_address: float | None = None
    limits_any_address: bool = True


class MakeRoom(Protocol):
    """Closes a session that has long joined no namespace; returns False if there is none."""

    def __call__(self) -> bool: ...


class Admission:
    """Decides on each handshake before a session is opened for it."""

    def __init__(self, clock: Clock, limits: AdmissionLimits, *, metrics: MetricFactory) -> None:
        self._clock = clock
        self._limits = limits
        self._tat = FULL
        """The bucket of all handshakes: a theoretical arrival time (``gateway.domain.rate_limit``)."""
        by_address = limits.connects_per_second_and_address
        self._rates_by_address = None if by_address is None else AddressRates(clock, by_address)
        self.draining = False
        metrics.callback_gauge(
            "engineio_sessions_limit",
            "MAX_CONNECTIONS.",
            read=lambda: {} if limits.max_connections is None else limits.max_connections,
        )
        metrics.callback_gauge(
            "engineio_sessions_unauthenticated_limit",
            "MAX_UNAUTHENTICATED.",
            read=lambda: {} if limits.max_unauthenticated is None else limits.max_unauthenticated,
        )

    def decide(
        self, address: str, *, sessions: int, unauthenticated: int, make_room: MakeRoom
    ) -> HandshakeError | None:
        """Return None to admit a client, else why it is rejected. A rejected handshake takes nothing from any rate.

        ``sessions``: how many are open now; ``unauthenticated``: how many of them have joined no namespace yet.
        """
        if self.draining:
            return unavailable("draining", "this replica is shutting down", 1)
        by_address = self._rates_of(address)
        rejection = self._check_rates(by_address, address) or self._check_capacity(
            sessions, unauthenticated, make_room
        )
        if rejection is None:
            rate = self._limits.connects_per_second
            if rate is not None:
                self._tat = take_token(self._tat, self._clock.monotonic(), rate)
            if by_address is not None:
                by_address.consume(address)
        return rejection

    def _rates_of(self, address: str) -> AddressRates | None:
        """Return the rates that apply to an address, if any do."""
        rates = self._rates_by_address
        return (
            None
            if rates is None or (not self._limits.limits_any_address and may_be_proxy(address))
            else rates
        )

    def _check_capacity(
        self, sessions: int, unauthenticated: int, make_room: MakeRoom
    ) -> HandshakeError | None:
        """Return the reason why there is no room. Called last: a session may be closed for the new one."""
        limits = self._limits
        is_full = limits.max_connections is not None and sessions >= limits.max_connections
        if is_full and not make_room():
            return unavailable("connection_limit", "this replica is full", 5)
        has_many = limits.max_unauthenticated is not None and unauthenticated >= limits.max_unauthenticated
        if has_many and not is_full and not make_room():
            return unavailable("unauthenticated_limit", "too many clients have not shown a token yet", 2)
        return None

    def _check_rates(self, by_address: AddressRates | None, address: str) -> HandshakeError | None:
        rate = self._limits.connects_per_second
        if by_address is not None and not by_address.allow(address):
            return unavailable(
                "address_rate",
                "too many clients connect from this address",
                math.ceil(by_address.seconds_each),
            )
        if rate is not None and wait_seconds(self._tat, self._clock.monotonic(), rate, max(1.0, rate)):
            return unavailable("rate", "too many clients connect at once", math.ceil(1 / rate))
        return None
