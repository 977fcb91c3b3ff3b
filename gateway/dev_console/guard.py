"""Access checks of the development page, without I/O.

The page has a loopback address, which every web page in the developer's browser can reach. Therefore:

- The peer must be this machine, whatever address the gateway listens on, because the page shows the secrets of the run.
- The request must come directly from a browser. A proxy on this machine has a loopback address too, and may pass on
  requests of any host; with a forwarding header, or with HTTP/1.0 as nginx writes it, the request is rejected.
- ``Host`` must be a name of this machine. A foreign name that resolves to it (DNS rebinding) is rejected.
- ``Origin`` must be that of the page. Requests of other pages are rejected, and no CORS header allows them.
- The request must have the secret of the page, which no other page can read. It is bound to the user of the page.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

_FORWARDING_PREFIXES: Final = ("x-forwarded", "x-original-", "x-envoy-", "cf-", "ngrok-", "tailscale-")
_FORWARDING_NAMES: Final = frozenset(
    {
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-host",
        "x-scheme",
        "true-client-ip",
        "client-ip",
        "fastly-client-ip",
        "cdn-loop",
    }
)
"""Headers that proxies add. No browser sends one of them."""
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Forbidden(Exception):
    """The request does not come from the page. ``code`` is the stable reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Guard:
    """The checks. ``hosts`` are further host names, with or without port, under which the page may be opened."""

    def __init__(self, *, hosts: Collection[str] = ()) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._key = secrets.token_bytes(32)

    def check_peer(self, address: str | None) -> None:
        """Raise Forbidden unless the request comes from this machine; the page shows secrets."""
        if address is None or not _is_loopback(address):
            raise Forbidden("peer_rejected", "the development page is only for browsers on the same machine")

    def check_direct(self, headers: Iterable[str], version: tuple[int, int]) -> None:
        """Raise Forbidden if a proxy passed the request on. ``headers`` are the names of its headers."""
        names = {name.lower() for name in headers}
        if (
            version < (1, 1)
            or not _FORWARDING_NAMES.isdisjoint(names)
            or any(name.startswith(_FORWARDING_PREFIXES) for name in names)
        ):
            raise Forbidden(
                "proxy_rejected",
                "the development page shows secrets and is not served through a proxy; open it directly",
            )

    def check_host(self, host: str) -> None:
        """Raise Forbidden unless ``Host`` names this machine. Any port is allowed, because it may be mapped."""
        if host.lower() not in self._hosts and _host_name(host) not in LOOPBACK_NAMES | self._hosts:
            raise Forbidden("host_rejected", "open the development page under localhost or 127.0.0.1")

    def check_origin(self, origin: str | None, host: str) -> None:
        """Raise Forbidden unless ``Origin`` is that of the page. A missing header is rejected."""
        if origin is None or origin.lower() not in {f"http://{host.lower()}", f"https://{host.lower()}"}:
            raise Forbidden("origin_rejected", "only the development page itself may send this request")

    def page_secret(self, user: str) -> str:
        """Return the secret of the page of this user."""
        return hmac.new(self._key, user.encode(), hashlib.sha256).hexdigest()

    def check_secret(self, secret: str | None, user: str) -> None:
        """Raise Forbidden unless the secret is that of the user's page in this process."""
        if secret is None or not hmac.compare_digest(secret.encode(), self.page_secret(user).encode()):
            raise Forbidden(
                "secret_rejected", "the page belongs to an earlier run or to another user; reload it"
            )


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def _host_name(host: str) -> str | None:
    """Return the name in a ``Host`` header (RFC 9110 §7.2), without port and brackets; None if it is invalid."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018  raises ValueError for an invalid port
    except ValueError:
        return None
    return parts.hostname if parts.netloc == host and "@" not in host else None
