"""A backend pushes a message, or has a user let go."""

from __future__ import annotations

from collections.abc import Callable, Collection

from gateway.domain.claims import Claim
from gateway.domain.messages import Kick, Message, Receipt, new_id
from gateway.ports import Broker, Clock


class Publishing:
    """Hands entries to the broker; they come back to every replica, this one included, through its listener."""

    def __init__(
        self, *, broker: Broker, clock: Clock, namespaces: Collection[str], accepted: Callable[[str], None]
    ) -> None:
        """``accepted`` is told the kind of each entry that the broker took."""
        self._broker = broker
        self._clock = clock
        self._namespaces = tuple(namespaces)
        self._accepted = accepted

    async def publish(self, message: Message, claim: Claim | None = None) -> Receipt:
        """Answers when the broker has the message; raises what ``Broker.append`` raises."""
        receipt = await self._broker.append(message, claim)
        self._accepted("message")
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
        self._accepted("kick")
        return receipt
