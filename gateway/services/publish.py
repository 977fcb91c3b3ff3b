"""A backend pushes a message, or has a user let go."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from gateway.domain.dedup import DedupKey
from gateway.domain.messages import DisconnectCommand, Message, PublishResult, new_id
from gateway.interfaces import Broker, Clock


class Meter(Protocol):
    """Counts what is published."""

    def publish_started(self, message: Message) -> None:
        """It is on its way to the broker."""
        ...

    def accepted(self, kind: str) -> None:
        """The broker took a ``message``, a ``volatile`` one or a ``kick``."""
        ...

    def replayed(self, entry_id: str) -> None:
        """It was not published: an earlier request under the same idempotency key had done the work."""
        ...


class MessagePublisher:
    """Hands entries to the broker; they come back to every replica, this one included, through its listener."""

    def __init__(self, *, broker: Broker, clock: Clock, namespaces: Collection[str], meter: Meter) -> None:
        self._broker = broker
        self._clock = clock
        self._namespaces = tuple(namespaces)
        self._meter = meter

    async def publish(self, message: Message, dedup_key: DedupKey | None = None) -> PublishResult:
        """Answers when the broker has the message; raises what ``Broker.append`` raises."""
        self._meter.publish_started(message)
        result = await self._broker.append(message, dedup_key)
        self._count_result(result, message.id, "volatile" if message.volatile else "message")
        return result

    async def disconnect_user(
        self,
        user: str,
        *,
        namespace: str | None,
        exclude: frozenset[str],
        revoke: bool,
        dedup_key: DedupKey | None = None,
    ) -> PublishResult:
        """End a user's connections in one namespace, or in all; with ``revoke`` older tokens are refused as well."""
        command = DisconnectCommand(
            id=new_id(),
            user=user,
            namespaces=self._namespaces if namespace is None else (namespace,),
            at=self._clock.now(),
            exclude=exclude,
            revoke=revoke,
        )
        result = await self._broker.append(command, dedup_key)
        self._count_result(result, command.id, "disconnect")
        return result

    def _count_result(self, result: PublishResult, entry_id: str, kind: str) -> None:
        if result.replayed:
            self._meter.replayed(entry_id)
        else:
            self._meter.accepted(kind)
