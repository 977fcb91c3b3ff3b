"""Revoking one token: at connect, at refresh, at recovery, on living connections, and what the caller gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import structlog

from gateway.domain.disconnects import REVOKED
from gateway.domain.errors import BrokerUnavailable, TokenRejected
from gateway.domain.identity import Identity
from gateway.domain.messages import DisconnectCommand, PublishResult, Reply
from gateway.domain.positions import Position
from gateway.hub import ConnectionState
from gateway.services import counted_disconnects
from gateway.services.counted_disconnects import CountedDisconnects, DisconnectCount, DisconnectReplies
from gateway.services.token_revocation import CLOCK_MARGIN_SECONDS, TokenRevocations
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.hub.transports import identity
from tests.unit.services.harness import Services

LEEWAY_SECONDS, MAX_KEPT_SECONDS = 5.0, 10_000.0


def with_token(jti: str, user: str = "ann", issuer: str = "") -> Identity:
    return Identity(user, identity(user).rooms, issued_at=1_700_000_000.0, token_id=f"{issuer} {jti}")


def revocations(services: Services) -> TokenRevocations:
    return TokenRevocations(
        disconnects=CountedDisconnects(publisher=services.publisher, replies=services.state.replies),
        clock=services.clock,
        namespaces=("/", "/events"),
        issuers=lambda: ("",),
        leeway_seconds=LEEWAY_SECONDS,
        max_kept_seconds=MAX_KEPT_SECONDS,
    )


@asynccontextmanager
async def replying(services: Services) -> AsyncIterator[DisconnectReplies]:
    """Reply for the replica of the services."""
    replies = DisconnectReplies()
    services.on_disconnected = replies.put
    task = asyncio.create_task(replies.run(services.state.replies))
    try:
        yield replies
    finally:
        task.cancel()
        await asyncio.wait([task])


async def revoke(services: Services, jti: str, *, issuer: str = "") -> DisconnectCount:
    async with replying(services), asyncio.timeout(TIMEOUT_SECONDS):
        return await revocations(services).revoke(jti, issuer=issuer, expires_at=None)


async def test_caller_gets_how_many_connections_were_ended(services: Services) -> None:
    transports = [
        (await services.connect_live(with_token("t-1", user), namespace))[1]
        for user, namespace in (("ann", "/"), ("bob", "/events"))
    ]
    _, other = await services.connect_live(with_token("t-2"))

    assert await revoke(services, "t-1") == DisconnectCount(2, is_exact=True)

    assert [transport.disconnects for transport in transports] == [[REVOKED]] * 2
    assert other.disconnects == []


async def test_caller_gets_zero_at_once_while_no_client_is_connected(services: Services) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        count = await revocations(services).revoke("t-1", issuer="", expires_at=None)

    assert count == DisconnectCount(0, is_exact=True)


async def test_revoked_token_is_rejected_at_connect_and_another_one_of_the_user_is_not(
    services: Services,
) -> None:
    await revoke(services, "t-1")

    with pytest.raises(TokenRejected) as rejection:
        await services.connect_live(with_token("t-1"))

    assert rejection.value.code == "token_revoked"
    assert await services.is_empty()
    await services.connect_live(with_token("t-2"))
    await services.connect_live(with_token("t-1", issuer="https://b.example/"))


async def test_revoked_token_is_rejected_at_refresh_and_the_connection_keeps_its_own(
    services: Services,
) -> None:
    connection, transport = await services.connect_live(with_token("t-1"))
    await revoke(services, "t-2")

    with pytest.raises(TokenRejected) as rejection:
        await services.connector.refresh(connection, with_token("t-2"))

    assert rejection.value.code == "token_revoked"
    assert (connection.identity, transport.disconnects) == (with_token("t-1"), [])
    assert await revoke(services, "t-1") == DisconnectCount(1, is_exact=True)


async def test_connection_is_ended_by_its_newest_token_alone(services: Services) -> None:
    connection, transport = await services.connect_live(with_token("t-1"))
    await services.connector.refresh(connection, with_token("t-2"))

    assert await revoke(services, "t-1") == DisconnectCount(0, is_exact=True)
    assert transport.disconnects == []
    assert await revoke(services, "t-2") == DisconnectCount(1, is_exact=True)


async def test_token_that_is_revoked_while_a_client_refreshes_ends_its_connection(services: Services) -> None:
    connection, transport = await services.connect_live(with_token("t-1"))
    services.revocations.gate.clear()
    services.revocations.entered.clear()
    services.revocations.answers_late = True
    refreshing = asyncio.create_task(services.connector.refresh(connection, with_token("t-2")))
    await asyncio.wait_for(services.revocations.entered.wait(), TIMEOUT_SECONDS)

    await revoke(services, "t-2")
    services.revocations.gate.set()
    await refreshing

    assert transport.disconnects == [REVOKED]


async def test_token_that_is_revoked_while_a_client_connects_is_rejected(services: Services) -> None:
    services.presence.gate.clear()
    connecting = asyncio.create_task(services.connect_declined(with_token("t-1")))
    await asyncio.wait_for(services.presence.entered.wait(), TIMEOUT_SECONDS)

    await revoke(services, "t-1")
    await services.wait_delivered()
    services.presence.gate.set()

    with pytest.raises(TokenRejected) as rejection:
        await connecting
    assert rejection.value.code == "token_revoked"
    assert await services.is_empty()


async def test_client_that_was_away_is_rejected_with_its_revoked_token_and_its_session_ends(
    services: Services,
) -> None:
    client = await services.connect_client(with_token("t-1"))
    await client.wait_live()
    services.disconnector.disconnect(client.connection)
    await revoke(services, "t-1")

    with pytest.raises(TokenRejected) as rejection:
        await services.connect_client(with_token("t-1"), pid=client.pid)
    assert rejection.value.code == "token_revoked"

    again = await services.connect_client(with_token("t-2"), pid=client.pid)
    assert again.result.failure == "unknown_session"


async def test_client_that_was_away_resumes_although_other_tokens_were_revoked_meanwhile(
    services: Services,
) -> None:
    client = await services.connect_client(with_token("t-1"))
    await client.wait_live()
    services.disconnector.disconnect(client.connection)
    await revoke(services, "t-1")
    await revoke(services, "t-3")
    await services.push("user:ann", "missed")

    resumed = await services.connect_client(with_token("t-2"), pid=client.pid)
    await resumed.wait_live()

    assert resumed.connection.sid == client.connection.sid
    assert "missed" in resumed.event_names


@pytest.mark.parametrize(
    ("expires_in", "kept_seconds"),
    [
        (None, MAX_KEPT_SECONDS),
        (1000.0, 1000.0 + LEEWAY_SECONDS + CLOCK_MARGIN_SECONDS),
        (-1000.0, LEEWAY_SECONDS + CLOCK_MARGIN_SECONDS),
        (1e9, MAX_KEPT_SECONDS),
    ],
)
async def test_revocation_is_kept_until_its_token_is_accepted_nowhere(
    services: Services, expires_in: float | None, kept_seconds: float
) -> None:
    appended: list[DisconnectCommand] = []
    append = services.broker.append

    async def record(entry: DisconnectCommand, dedup_key: object = None) -> PublishResult:
        appended.append(entry)
        return await append(entry)

    services.broker.append = record  # type: ignore[assignment]
    expires_at = None if expires_in is None else services.clock.now() + expires_in

    await revocations(services).revoke("t-1", issuer="https://b.example/", expires_at=expires_at)

    (command,) = appended
    assert command.kept_seconds == pytest.approx(kept_seconds)
    assert (command.token_id, command.revoke) == ("https://b.example/ t-1", True)
    assert command.addresses == (("/", None), ("/events", None))


async def test_count_is_not_exact_if_a_replica_does_not_reply_in_time(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted_disconnects, "REPLY_SECONDS", 0.2)
    _, transport = await services.connect_live(with_token("t-1"))

    count = await revocations(services).revoke("t-1", issuer="", expires_at=None)

    assert count == DisconnectCount(0, is_exact=False)
    assert transport.disconnects == [REVOKED]


@pytest.mark.parametrize("content", ["null", "{}", '{"disconnected":"1"}', "{", '{"disconnected":-1}'])
async def test_reply_in_a_form_of_another_release_does_not_count(
    services: Services, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(counted_disconnects, "REPLY_SECONDS", 0.2)
    await services.connect_live(with_token("t-1"))
    replied: list[asyncio.Task[None]] = []

    def reply(command: DisconnectCommand, _: int) -> None:
        sending = services.state.replies.send(command.reply_to, command.id, content)
        replied.append(asyncio.create_task(sending))

    services.on_disconnected = reply

    count = await revocations(services).revoke("t-1", issuer="", expires_at=None)

    assert count == DisconnectCount(0, is_exact=False)
    assert [task.done() for task in replied] == [True]


async def test_callers_that_wait_are_bounded(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted_disconnects, "MAX_WAITING", 1)
    monkeypatch.setattr(counted_disconnects, "REPLY_SECONDS", 0.2)
    connection, _ = await services.connect_live(with_token("t-1"))
    revoking = revocations(services)
    first = asyncio.create_task(revoking.revoke("t-1", issuer="", expires_at=None))
    await asyncio.sleep(0)

    with pytest.raises(BrokerUnavailable):
        await revoking.revoke("t-2", issuer="", expires_at=None)

    assert (await first).is_exact is False
    assert connection.state is ConnectionState.LIVE
    await revoking.revoke("t-2", issuer="", expires_at=None)


class FailingReplies:
    """A fake of replies: that to the entry ``lost`` cannot be sent."""

    replica = "r-1"

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.has_sent = asyncio.Event()

    def expect(self, entry_id: str, on_reply: Callable[[Reply], None]) -> None: ...

    def forget(self, entry_id: str) -> None: ...

    async def send(self, replica: str, entry_id: str, content: str) -> None:
        if entry_id == "lost":
            raise BrokerUnavailable("unavailable")
        self.sent.append(content)
        self.has_sent.set()


async def test_reply_that_cannot_be_sent_is_logged_and_the_next_one_is_sent() -> None:
    replies, sender = FailingReplies(), DisconnectReplies()
    for entry_id, ended in (("lost", 1), ("kept", 2)):
        sender.put(DisconnectCommand(entry_id, "", ("/",), 0.0, token_id=" t", reply_to="r-1"), ended)
    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(sender.run(replies))
        await asyncio.wait_for(replies.has_sent.wait(), TIMEOUT_SECONDS)
        task.cancel()

    assert [json.loads(content) for content in replies.sent] == [{"disconnected": 2}]
    assert [(line["event"], line["code"]) for line in lines] == [
        ("disconnect.reply_failed", "broker_unavailable")
    ]


async def test_reply_is_dropped_and_logged_while_too_many_wait() -> None:
    sender = DisconnectReplies()
    command = DisconnectCommand("id", "", ("/",), 0.0, token_id=" t", reply_to="r-1")
    with structlog.testing.capture_logs() as lines:
        for _ in range(counted_disconnects.MAX_WAITING + 1):
            sender.put(command, 0)

    assert [(line["event"], line["code"]) for line in lines] == [("disconnect.reply_failed", "queue_full")]


async def test_count_of_a_stored_result_is_not_exact(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append that is repeated because its answer was lost does not name the replicas."""
    monkeypatch.setattr(counted_disconnects, "REPLY_SECONDS", 0.2)

    async def stored(entry: DisconnectCommand, dedup_key: object = None) -> PublishResult:
        return PublishResult(entry.id, Position("1-0"), 3, exact=False)

    services.broker.append = stored  # type: ignore[assignment]

    count = await revocations(services).revoke("t-1", issuer="", expires_at=None)

    assert count == DisconnectCount(0, is_exact=False)
