"""A backend pushes a message, or has a user let go."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from gateway.domain.claims import Claim
from gateway.domain.messages import Kick, Message, Receipt, new_id
from gateway.ports import Broker, Clock


class Meter(Protocol):
    """Counts what is published."""

    def publishing(self, message: Message) -> None:
        """It is on its way to the broker."""
        ...

    def accepted(self, kind: str) -> None:
        """The broker took a ``message``, a ``volatile`` one or a ``kick``."""
        ...

    def replayed(self, entry_id: str) -> None:
        """It was not published: an earlier request under the same idempotency key had done the work."""
        ...


class Publishing:
    """Hands entries to the broker; they come back to every replica, this one included, through its listener."""

    def __init__(self, *, broker: Broker, clock: Clock, namespaces: Collection[str], meter: Meter) -> None:
        self._broker = broker
        self._clock = clock
        self._namespaces = tuple(namespaces)
        self._meter = meter

    async def publish(self, message: Message, claim: Claim | None = None) -> Receipt:
        """Answers when the broker has the message; raises what ``Broker.append`` raises."""
        self._meter.publishing(message)
        receipt = await self._broker.append(message, claim)
        self._count(receipt, message.id, "volatile" if message.volatile else "message")
        return receipt

    async def kick(
        self,
        user: str,
        *,
        namespace: str | None,
        exclude: frozenset[str],
        revoke: bool,
        claim: Claim | None = None,
    ) -> Receipt:
        """End a user's connections in one namespace, or in all; with ``revoke`` older tokens are refused as well."""
        kick = Kick(
            id=new_id(),
            user=user,
            namespaces=self._namespaces if namespace is None else (namespace,),
            at=self._clock.now(),
            exclude=exclude,
            revoke=revoke,
        )
        receipt = await self._broker.append(kick, claim)
        self._count(receipt, kick.id, "kick")
        return receipt

    def _count(self, receipt: Receipt, entry_id: str, kind: str) -> None:
        if receipt.replayed:
            self._meter.replayed(entry_id)
        else:
            self._meter.accepted(kind)
