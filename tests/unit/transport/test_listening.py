"""Listening sockets: both families on one port, also on a machine that has only one."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from gateway.http_server import bind_sockets


@contextmanager
def released(sockets: list[socket.socket]) -> Iterator[list[tuple[str, int]]]:
    """The addresses of sockets, which are closed at the end."""
    try:
        yield [each.getsockname()[:2] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("::", ["0.0.0.0", "::"]),
        ("", ["0.0.0.0", "::"]),
        ("localhost", ["127.0.0.1", "::1"]),
        ("LocalHost", ["127.0.0.1", "::1"]),
        ("0.0.0.0", ["0.0.0.0"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("::1", ["::1"]),
    ],
)
async def test_host_has_the_addresses_of_its_families_on_one_port(host: str, addresses: list[str]) -> None:
    with released(await bind_sockets(host, 0)) as bound:
        assert [address for address, _ in bound] == addresses
        assert len({port for _, port in bound}) == 1
        assert bound[0][1] > 0


async def test_port_in_use_over_one_family_is_an_error_that_names_the_address() -> None:
    with closing(socket.socket(socket.AF_INET6)) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", 0))
        port = other.getsockname()[1]

        with pytest.raises(OSError, match="in use") as caught:
            await bind_sockets("localhost", port)

    assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, "::1")
    # Nothing is left open: the same port can be bound again.
    with released(await bind_sockets("127.0.0.1", port)) as bound:
        assert bound == [("127.0.0.1", port)]


class SocketWithoutIPv6(socket.socket):
    """Fails as on a machine whose kernel has no IPv6."""

    def __init__(self, family: int = socket.AF_INET, *args: Any, **options: Any) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *args, **options)


class SocketWithIPv6SwitchedOff(socket.socket):
    """Fails as on a machine with ``net.ipv6.conf.all.disable_ipv6 = 1``."""

    def bind(self, address: Any) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        super().bind(address)


@pytest.mark.parametrize("machine", [SocketWithoutIPv6, SocketWithIPv6SwitchedOff])
@pytest.mark.parametrize(("host", "address"), [("localhost", "127.0.0.1"), ("::", "0.0.0.0")])
async def test_machine_without_ipv6_serves_ipv4_alone(
    monkeypatch: pytest.MonkeyPatch, machine: type[socket.socket], host: str, address: str
) -> None:
    monkeypatch.setattr("gateway.http_server.socket.socket", machine)

    with released(await bind_sockets(host, 0)) as bound:
        assert [each for each, _ in bound] == [address]


async def test_address_that_the_machine_does_not_have_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="assign") as caught:
        await bind_sockets("203.0.113.1", 0)
    assert caught.value.filename == "203.0.113.1"

    monkeypatch.setattr("gateway.http_server.socket.socket", SocketWithoutIPv6)
    with pytest.raises(OSError, match="family"):
        await bind_sockets("::1", 0)


async def test_chosen_port_is_free_over_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """The port that the system chose over IPv4 may be in use over IPv6: another one is chosen then."""
    taken: list[int] = []

    class SocketOfABusyMachine(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6 and len(taken) < 3:
                taken.append(address[1])
                raise OSError(errno.EADDRINUSE, "Address already in use")
            super().bind(address)

    monkeypatch.setattr("gateway.http_server.socket.socket", SocketOfABusyMachine)

    with released(await bind_sockets("localhost", 0)) as bound:
        assert [address for address, _ in bound] == ["127.0.0.1", "::1"]
        assert bound[0][1] == bound[1][1]
    assert len(taken) == 3
