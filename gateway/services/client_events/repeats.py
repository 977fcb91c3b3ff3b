"""``Repeats``: of equal events with a dedupe value one takes effect, and the others get its acknowledgement."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import orjson

from gateway.domain.attachments import with_base64, with_buffers
from gateway.domain.dedup import MAX_ACK_BYTES, AckClaim
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, ClientEventRejected
from gateway.domain.templates import MISSING
from gateway.domain.webhooks import WebhookAnswer
from gateway.hub import ConnectionState
from gateway.interfaces import AckStore
from gateway.services.client_events.buffers import encode
from gateway.services.client_events.effects import Effects, Outcome, PlannedEvent
from gateway.services.client_events.queue import ReceivedEvent

CLAIM_SECONDS: Final = 2.0
"""How long the claim of a killed replica makes a repeat wait: shorter than a client with ``retries`` tries again."""
_RENEW_SECONDS: Final = 0.5
"""How often the claim of an event is renewed whose webhook has not answered yet."""
_POLL_SECONDS: Final = 0.1
"""How often a repeat looks whether the first event has its acknowledgement."""
_ID_CHARACTERS: Final = 32
_MARK_CHARACTERS: Final = 8
"""Characters of 6 bits of a digest. A mark stands for a room, so that the size of an intent is bounded."""


class Repeats:
    """Lets each dedupe value of a user take effect once, over all connections and replicas.

    An attempt claims the value, and keeps its acknowledgement when it succeeds. What failed, or had an unknown outcome,
    is attempted again by the next repeat, with the same ids for the webhook and for the broker.
    """

    def __init__(self, *, acks: AckStore, effects: Effects) -> None:
        self._acks = acks
        self._effects = effects

    async def apply(self, event: PlannedEvent) -> Outcome:
        """Let an event take effect, or return the acknowledgement of an earlier one, for which it may have to wait.

        Raises: as ``Effects.apply`` does.
        """
        while (outcome := await self.try_to_apply(event)) is None:
            await asyncio.sleep(_POLL_SECONDS)
            if event.received.connection.state is ConnectionState.CLOSED:
                return Outcome("dropped")
        return outcome

    async def try_to_apply(self, event: PlannedEvent) -> Outcome | None:
        """Do the same, but return None at once while an equal event is in progress.

        Raises: as ``Effects.apply`` does.
        """
        claim = await self._claim(event, intent=_intent(event))
        if claim.is_held:
            return await self._apply_claimed(event, claim)
        return None if claim.ack is None else await self._repeat(event, claim.ack)

    async def _claim(self, event: PlannedEvent, *, intent: str = "") -> AckClaim:
        received, context, _ = event
        return await self._acks.claim(
            context.id, received.id, user=received.connection.user, seconds=CLAIM_SECONDS, intent=intent
        )

    async def _apply_claimed(self, event: PlannedEvent, claim: AckClaim) -> Outcome:
        """Let a claimed event take effect and keep its acknowledgement."""
        received, context, plan = event
        user = received.connection.user
        if claim.intent:
            plan = plan._replace(changed_before=_marked(plan.named, claim.intent))
        try:
            async with self._renewed(event):
                outcome = await self._effects.apply(PlannedEvent(received, context, plan))
        except BaseException as error:
            is_certain = isinstance(error, ClientEventRejected | BrokerUnavailable)
            with suppress(BrokerUnavailable, BrokerTimeout):
                # An earlier attempt with an unknown outcome stays unknown.
                keeps_intent = bool(claim.intent) or not is_certain
                await self._acks.release(context.id, received.id, user=user, keeps_intent=keeps_intent)
            raise
        kept = _kept(received, outcome)
        # A claim that is not ended ends by itself: the event has taken effect, so its client gets no error.
        with suppress(BrokerUnavailable, BrokerTimeout):
            if outcome.name == "ok" and len(kept.encode()) <= MAX_ACK_BYTES:
                await self._acks.keep(context.id, received.id, kept, user=user)
            else:
                await self._acks.release(context.id, received.id, user=user, keeps_intent=True)
        return outcome

    async def _repeat(self, event: PlannedEvent, text: str) -> Outcome:
        kept = orjson.loads(text)
        with_buffers(kept, kept.get("binary", ()))
        ack = tuple(kept["ack"])
        if kept.get("sid", event.received.connection.sid) == event.received.connection.sid:
            return Outcome("repeated", ack)
        answer = WebhookAnswer(
            join=tuple(kept["join"]),
            leave=tuple(kept["leave"]),
            set=kept["set"],
            disconnect=kept["disconnect"],
        )
        return await self._effects.repeat(event, ack, answer)

    @asynccontextmanager
    async def _renewed(self, event: PlannedEvent) -> AsyncIterator[None]:
        """Renew the claim of an event until its webhook has answered.

        A claim that is lost nevertheless does no harm: a repeat has the same ids for the webhook and for the broker.
        """

        async def renew() -> None:
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                with suppress(BrokerUnavailable, BrokerTimeout, ClientEventRejected):
                    await self._claim(event)

        renewal = None
        if not event.received.is_quick:
            renewal = asyncio.create_task(renew(), name="client event claim")
        try:
            yield
        finally:
            if renewal is not None:
                renewal.cancel()
                await asyncio.wait([renewal])


def repeatable_id(received: ReceivedEvent, value: object) -> str:
    """Return an id that repeats of an event share: made of its user, namespace, name and dedupe value.

    Raises: ClientEventRejected (``invalid_payload``) without a value.
    """
    if value is MISSING or value is None:
        raise ClientEventRejected("invalid_payload", "the dedupe value is missing")
    value = with_base64(value, "", [])
    connection = received.connection
    return digest([connection.user, connection.namespace, received.name, value])


def digest(values: Sequence[object]) -> str:
    """Return a short text that stands for some values."""
    hashed = hashlib.sha256(encode(values).encode()).digest()
    return urlsafe_b64encode(hashed)[:_ID_CHARACTERS].decode()


def _kept(received: ReceivedEvent, outcome: Outcome) -> str:
    """Return what is kept for repeats: the acknowledgement, and what a repeat on another connection needs."""
    entry, answer = received.entry, outcome.answer
    pointers: list[str] = []
    kept: dict[str, object] = {"ack": with_base64(outcome.ack, "/ack", pointers)}
    if pointers:
        kept["binary"] = pointers
    changes = {
        "join": answer.join,
        "leave": answer.leave,
        "set": answer.set,
        "disconnect": answer.disconnect,
    }
    if entry.join is not None or entry.leave is not None or any(changes.values()):
        kept |= {"sid": received.connection.sid, **changes}
    return encode(kept)


def _intent(event: PlannedEvent) -> str:
    """Return the marks of the rooms that an event is about to change, if it announces that to ``others``.

    If the outcome stays unknown, the next attempt may find them changed already.
    """
    received, _, plan = event
    if not plan.named or not any(each.recipients.others for each in plan.messages):
        return ""
    changes = plan.join or received.connection.joined_rooms.intersection(plan.leave)
    return " ".join(map(_mark, changes))


def _marked(rooms: Sequence[str], intent: str) -> tuple[str, ...]:
    """Return those of some rooms whose mark is in an intent."""
    marks = frozenset(intent.split(" "))
    return tuple(room for room in rooms if _mark(room) in marks)


def _mark(room: str) -> str:
    return digest([room])[:_MARK_CHARACTERS]
