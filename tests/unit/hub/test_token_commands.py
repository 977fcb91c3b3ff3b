"""Disconnect commands that name a token id: which connections of the hub they end, and what is replied."""

from __future__ import annotations

from gateway.domain.disconnects import REVOKED
from gateway.domain.identity import Identity
from gateway.domain.messages import DisconnectCommand
from gateway.domain.positions import Position
from gateway.hub import Connection, ConnectionState, Hub
from gateway.metrics import MetricFactory
from tests.contract.values import revoke_token
from tests.unit.hub.transports import RecordingTransport, encode


class TokenHarness:
    """A hub, and the replies to disconnect commands."""

    def __init__(self) -> None:
        self.replied: list[tuple[str, int]] = []
        self.hub = Hub(encode, metrics=MetricFactory(), on_disconnected=self._on_disconnected)

    def _on_disconnected(self, command: DisconnectCommand, ended: int) -> None:
        self.replied.append((command.id, ended))

    def join(
        self,
        sid: str,
        token_id: str,
        *,
        namespace: str = "/",
        state: ConnectionState = ConnectionState.LIVE,
    ) -> tuple[Connection, RecordingTransport]:
        transport = RecordingTransport()
        identity = Identity("ann", frozenset({"user:ann"}), token_id=token_id)
        made = Connection(sid, namespace, identity, transport, 0.0)
        made.state = state
        self.hub.add(made, {"user:ann", sid})
        return made, transport

    async def revoke(self, token_id: str, *, reply_to: str = "") -> DisconnectCommand:
        command = revoke_token(token_id, reply_to=reply_to)
        await self.hub.deliver(command, Position("1-0"))
        return command


async def test_command_ends_the_connections_with_its_token_in_every_namespace_and_no_other() -> None:
    harness = TokenHarness()
    ended = [harness.join("a", " t-1")[1], harness.join("b", " t-1", namespace="/chat")[1]]
    others = [
        harness.join("c", " t-2")[1],
        harness.join("d", "")[1],
        harness.join("e", " t-1", namespace="/elsewhere")[1],
    ]

    await harness.revoke(" t-1")

    assert [transport.disconnects for transport in ended] == [[REVOKED]] * 2
    assert [transport.disconnects for transport in others] == [[]] * 3
    assert harness.replied == []


async def test_reply_counts_the_connections_that_were_accepted() -> None:
    harness = TokenHarness()
    harness.join("a", " t-1")
    connecting, transport = harness.join("b", " t-1", state=ConnectionState.CONNECTING)

    first = await harness.revoke(" t-1", reply_to="r-1")
    second = await harness.revoke(" t-2", reply_to="r-1")

    assert harness.replied == [(first.id, 1), (second.id, 0)]
    assert (connecting.was_disconnected, transport.disconnects) == (True, [])


async def test_connection_that_was_removed_or_got_another_token_is_not_ended() -> None:
    harness = TokenHarness()
    removed, transport = harness.join("a", " t-1")
    harness.hub.remove(removed)
    changed, other_transport = harness.join("b", " t-1")
    harness.hub.add_token(changed, " t-2")
    harness.hub.remove_token(changed, " t-1")
    harness.hub.add_token(removed, " t-1")

    await harness.revoke(" t-1")

    assert (transport.disconnects, other_transport.disconnects) == ([], [])
    await harness.revoke(" t-2")
    assert other_transport.disconnects == [REVOKED]
