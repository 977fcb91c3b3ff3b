"""Releases of the stock JavaScript client from 3.1 on: each connects, receives, acknowledges, reconnects.

The releases are packages of their own in tests/support/js/package.json.
"""

from __future__ import annotations

import json
from typing import Final

import pytest

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT

PREFIX: Final = "socket.io-client-"
RELEASES: Final = [
    name.removeprefix(PREFIX)
    for name in json.loads((ROOT / "tests/support/js/package.json").read_text())["devDependencies"]
    if name.startswith(PREFIX)
]
RECOVERS_SINCE: Final = (4, 6)
"""The first release that sends `pid` and `offset` when it reconnects."""
INACTIVE_SINCE: Final = (4, 4)
"""The first release whose `active` is false after a rejection."""


def number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def recovers(release: str) -> bool:
    return number(release) >= RECOVERS_SINCE


def test_every_minor_release_is_tested() -> None:
    assert ["3.1", *(f"4.{minor}" for minor in range(8))] == RELEASES


@pytest.mark.parametrize(
    "transports", [["polling"], ["websocket"], None], ids=["polling", "websocket", "upgrade"]
)
@pytest.mark.parametrize("release", RELEASES)
def test_client_connects_receives_and_gets_an_acknowledgement(
    gateway_process: GatewayProcess, node: NodeClients, user: str, release: str, transports: list[str] | None
) -> None:
    client = node.open(
        gateway_process.url, token=gateway_process.token(user), transports=transports, release=release
    ).connected()
    assert client.event("authenticated")[0]["userId"] == user

    gateway_process.push_user(user, "hello", {"text": "ü"})
    assert client.event("hello")[0] == {"text": "ü"}

    assert client.emit_with_callback("unknown")[0]["error"]["code"] == "unknown_event"
    client.disconnect()


@pytest.mark.parametrize("release", RELEASES)
def test_client_reconnects_and_newer_ones_recover_what_they_missed(
    gateway_process: GatewayProcess, node: NodeClients, user: str, release: str
) -> None:
    client = node.open(gateway_process.url, token=gateway_process.token(user), release=release).connected()
    client.event("authenticated")
    sid = client.sid
    gateway_process.push_user(user, "before")
    client.event("before")

    client.close_engine()
    client.wait("disconnect")
    gateway_process.push_user(user, "missed")
    client.wait("connect", count=2)
    gateway_process.push_user(user, "after")
    client.event("after")

    assert len(client.events("missed")) <= 1
    if recovers(release):
        assert client.sid == sid
        assert len(client.events("missed")) == 1
    else:
        assert client.sid != sid
    client.disconnect()


@pytest.mark.parametrize("release", [release for release in RELEASES if not recovers(release)])
def test_client_that_declines_recovery_gets_no_position(
    gateway_process: GatewayProcess, node: NodeClients, user: str, release: str
) -> None:
    auth = {"token": gateway_process.token(user), "recovery": False}
    client = node.open(gateway_process.url, auth=auth, release=release).connected()

    gateway_process.push_user(user, "hello", {"n": 1})

    assert client.event("hello") == [{"n": 1}]
    client.disconnect()


@pytest.mark.parametrize("release", RELEASES)
def test_client_sees_the_code_of_a_rejection(
    gateway_process: GatewayProcess, node: NodeClients, release: str
) -> None:
    client = node.open(gateway_process.url, token="not a token", release=release)

    error = client.wait("connect_error")

    assert error["data"]["code"] == "token_malformed"
    assert error["active"] is (number(release) < INACTIVE_SINCE)
    client.disconnect()
