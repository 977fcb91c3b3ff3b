"""The listening sockets of a host: one for each of its addresses, IPv4 and IPv6 apart, all with the same port.

An IPv6 socket that also accepts IPv4 would show IPv4 clients with mapped addresses, and does not exist everywhere.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any, Final

import structlog

_BOTH_FAMILIES: Final = {
    "": ("0.0.0.0", "::"),  # noqa: S104  # the operator asked for all addresses
    "::": ("0.0.0.0", "::"),  # noqa: S104
    "localhost": ("127.0.0.1", "::1"),
}
"""Hosts that mean both families, whatever the file of hosts says. Programs connect to ``localhost`` over either."""
_NO_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
"""Errors of a machine without IPv6."""
_ATTEMPTS: Final = 16
"""How often a port is chosen: the one that is free over IPv4 may be in use over IPv6."""

log = structlog.get_logger(__name__)


async def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Bind a socket for each address of the host. If ``port`` is 0, the system chooses one that all of them get.

    An address of a family that this machine does not have is skipped if there is another one.

    Raises: OSError, with the address as ``filename``.
    """
    addresses = await _resolve(host)
    for _ in range(_ATTEMPTS - 1):
        try:
            return _bind_all(addresses, port)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE:
                raise
    return _bind_all(addresses, port)


async def _resolve(host: str) -> list[tuple[socket.AddressFamily, Any]]:
    """Return family and address of each name; IPv4 comes first, and its address is the one that is shown."""
    loop = asyncio.get_running_loop()
    found: list[tuple[socket.AddressFamily, Any]] = []
    for name in _BOTH_FAMILIES.get(host.lower(), (host,)):
        resolved = await loop.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
        found += [(family, address) for family, _, _, _, address in resolved]
    return sorted(dict.fromkeys(found), key=lambda each: each[0] != socket.AF_INET)


def _bind_all(addresses: list[tuple[socket.AddressFamily, Any]], port: int) -> list[socket.socket]:
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            try:
                bound.append(_bind(family, address, port))
            except OSError as error:
                if family != socket.AF_INET6 or error.errno not in _NO_FAMILY:
                    raise
                missing = error
            else:
                port = bound[-1].getsockname()[1]
        if not bound and missing is not None:
            raise missing
    except BaseException:
        for each in bound:
            each.close()
        raise
    if missing is not None:
        log.info("gateway.address_skipped", address=missing.filename, reason=missing.strerror)
    return bound


def _bind(family: socket.AddressFamily, address: Any, port: int) -> socket.socket:
    """Bind one socket.

    Raises: OSError, with the address as ``filename``.
    """
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # Otherwise connections that were closed lately would keep the port for a minute.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((address[0], port, *address[2:]))
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), address[0]) from error
    bound.setblocking(False)
    return bound
