"""Who may use the development page. Pure.

The page stands on a loopback address, which every web page in the developer's browser can reach. So:

- The peer must be this machine, whatever address the gateway listens on: the page shows the secrets of the run.
- ``Host`` must be a name of this machine: a foreign name that was pointed here (DNS rebinding) is refused.
- ``Origin`` must be the page's own: requests of other pages are refused, without CORS headers to soften that.
- The secret of the page must be there, which no other page can read. It is bound to the user of the page.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Forbidden(Exception):
    """The request is not the page's own; ``code`` says what is wrong."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Guard:
    """Checks requests; ``hosts`` are further names (with or without port) under which the page may be opened."""

    def __init__(self, *, hosts: Collection[str] = ()) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._key = secrets.token_bytes(32)

    def check_peer(self, address: str | None) -> None:
        """Raises Forbidden unless the request comes from this machine: what the page shows is not for the network."""
        if address is None or not _is_loopback(address):
            raise Forbidden("peer_refused", "the development page is for browsers on the same machine only")

    def check_host(self, host: str) -> None:
        """Raises Forbidden unless the ``Host`` header names this machine; the port is free, for it may be mapped."""
        if host.lower() not in self._hosts and _name_of(host) not in LOOPBACK_NAMES | self._hosts:
            raise Forbidden(
                "host_refused", "the development page is opened under localhost or 127.0.0.1 only"
            )

    def check_origin(self, origin: str | None, host: str) -> None:
        """Raises Forbidden unless the ``Origin`` header is the page's own; one that is missing is not."""
        if origin is None or origin.lower() not in {f"http://{host.lower()}", f"https://{host.lower()}"}:
            raise Forbidden("origin_refused", "only the development page itself may ask this")

    def secret_of(self, user: str) -> str:
        """What the page of this user knows."""
        return hmac.new(self._key, user.encode(), hashlib.sha256).hexdigest()

    def check_secret(self, secret: str | None, user: str) -> None:
        """Raises Forbidden unless the secret is that of the user's page, of this process."""
        if secret is None or not hmac.compare_digest(secret.encode(), self.secret_of(user).encode()):
            raise Forbidden(
                "secret_refused", "the page is of an earlier run or of another user; load it once more"
            )


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def _name_of(host: str) -> str | None:
    """The name in a ``Host`` header (RFC 9110 §7.2), without port and brackets; None for what is none."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018  raises ValueError for what is no port
    except ValueError:
        return None
    return parts.hostname if parts.netloc == host and "@" not in host else None
