"""Values that the suites append, register and use."""

from __future__ import annotations

from itertools import count
from typing import Protocol

from gateway.domain.dedup import DedupKey
from gateway.domain.messages import Address, DisconnectCommand, Message, SessionTakeover, new_id
from gateway.domain.notifications import Notification
from gateway.domain.positions import Position
from gateway.domain.presence import PresentConnection
from gateway.domain.traces import Trace
from gateway.interfaces import Broker
from tests.contract.states import REPLICA

_numbers = count()


class HasTime(Protocol):
    """The wall clock of a dedup key."""

    def now(self) -> float: ...


def message(
    *rooms: str,
    namespace: str = "/",
    arguments: tuple[str, ...] = ('{"n":1}',),
    exclude: frozenset[str] = frozenset(),
    volatile: bool = False,
    trace: Trace | None = None,
) -> Message:
    """Return a new message; without rooms to everyone in the namespace."""
    return Message(new_id(), namespace, rooms, "news", arguments, exclude, volatile, trace)


def disconnect_command(
    user: str, *, at: float, revoke: bool = False, namespaces: tuple[str, ...] = ("/",)
) -> DisconnectCommand:
    return DisconnectCommand(new_id(), user, namespaces, at, revoke=revoke)


def revoke_token(token_id: str, *, kept_seconds: float = 3600.0, reply_to: str = "") -> DisconnectCommand:
    return DisconnectCommand(
        new_id(),
        "",
        ("/", "/chat"),
        1000.0,
        revoke=True,
        token_id=token_id,
        reply_to=reply_to,
        kept_seconds=kept_seconds,
    )


def session_takeover(sid: str, *, namespace: str = "/", owner: str = "replica-2/t1") -> SessionTakeover:
    return SessionTakeover(new_id(), namespace, sid, owner)


def notification(
    user: str = "ann",
    *,
    webhook: str = "app",
    partition: int = 0,
    type_: str = "client.event",
    happened_at: float = 1_700_000_000.5,
    data: str = '{"event":"read"}',
) -> Notification:
    return Notification(new_id(), webhook, partition, user, type_, happened_at, data)


def at(room: str | None, namespace: str = "/") -> Address:
    return Address(namespace, room)


async def connections_at(broker: Broker, *addresses: Address) -> int:
    """Return how many connections count at the addresses: those that a push to them reports.

    Each address gets a volatile message, which the history does not keep.
    """
    pushes = [
        message(*([] if room is None else [room]), namespace=namespace, volatile=True)
        for namespace, room in addresses
    ]
    return sum([(await broker.append(push)).connections for push in pushes])


async def newest_position(broker: Broker) -> Position:
    """Return the newest position of the stream: a subscription to nothing reads it and changes nothing."""
    return await broker.subscribe(())


def connection(
    sid: str, user: str, *, namespace: str = "/", connected_at: float = 1000.0
) -> PresentConnection:
    return PresentConnection(sid, user, namespace, REPLICA, "websocket", connected_at)


def dedup_key(
    state: HasTime,
    *,
    key_id: str = "backend",
    nonce: str | None = None,
    lives_seconds: float = 300.0,
    idempotency_key: str | None = None,
    scope: str = "backend POST /broadcast",
    fingerprint: str = "body",
    signature: str = "",
) -> DedupKey:
    """Return the dedup key of a request made now, with a new nonce unless one is given."""
    return DedupKey(
        key_id=key_id,
        nonce=f"nonce-{next(_numbers)}" if nonce is None else nonce,
        nonce_expires_at=state.now() + lives_seconds,
        idempotency_key=idempotency_key,
        scope=scope if idempotency_key is not None else "",
        fingerprint=fingerprint if idempotency_key is not None else "",
        signature=signature,
    )
