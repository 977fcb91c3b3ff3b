"""Publish messages and disconnect commands of backends."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from gateway.domain.dedup import DedupKey
from gateway.domain.messages import DisconnectCommand, Message, PublishResult, new_id
from gateway.interfaces import Broker, Clock
from gateway.metrics import DeliveryTimer, MetricFactory

MESSAGE, VOLATILE, DISCONNECT = "message", "volatile", "disconnect"


class MessagePublisher:
    """Appends entries to the broker, whose listener delivers them on every replica, this one included."""

    def __init__(
        self,
        *,
        broker: Broker,
        clock: Clock,
        namespaces: Collection[str],
        delivery_timer: DeliveryTimer,
        metrics: MetricFactory,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._namespaces = tuple(namespaces)
        self._delivery_timer = delivery_timer
        self._published = dict.fromkeys((MESSAGE, VOLATILE, DISCONNECT), 0)
        metrics.callback_counter(
            "messages_published",
            "Entries of backends of this replica that the broker accepted, by kind.",
            ("kind",),
            read=lambda: {(kind,): number for kind, number in self._published.items()},
        )
        self._dropped = metrics.counter(
            "offline_dropped",
            "Messages removed from the offline queue before a client got them: their user had too many.",
        )
        self._replays = metrics.counter(
            "idempotent_replays", "Requests that repeated an idempotency key and got the first result."
        )

    async def publish(
        self, message: Message, dedup_key: DedupKey | None = None, *, with_counts: bool = False
    ) -> PublishResult:
        """Return once the broker has the message. ``with_counts`` is that of ``Broker.append``.

        Raises: what ``Broker.append`` raises.
        """
        self._delivery_timer.start(message)
        result = await self._broker.append(message, dedup_key, with_counts=with_counts)
        self._count_result(result, message.id, VOLATILE if message.volatile else MESSAGE)
        return result

    def publish_now(
        self, message: Message, dedup_key: DedupKey
    ) -> PublishResult | asyncio.Future[PublishResult] | None:
        """Publish a plain message as ``publish`` does, if nothing but a shared state has to be waited for.

        Return the result, a future that gets it or an error of ``publish``, or None if nothing was done
        (``Broker.append_now``).
        """
        self._delivery_timer.start(message)
        result = self._broker.append_now(message, dedup_key)
        if result is None:
            self._delivery_timer.cancel(message.id)
        elif isinstance(result, PublishResult):
            self._published[MESSAGE] += 1
        else:
            result.add_done_callback(self._count_later)
        return result

    def _count_later(self, appended: asyncio.Future[PublishResult]) -> None:
        if not appended.cancelled() and appended.exception() is None:
            result = appended.result()
            self._count_result(result, result.id, MESSAGE)

    async def publish_all(
        self, messages: Sequence[Message], dedup_key: DedupKey | None = None
    ) -> tuple[PublishResult, ...]:
        """Return once the broker has all the messages.

        Raises: what ``Broker.append_all`` raises; then it has none.
        """
        # They are delivered together, so the time of one is that of all.
        self._delivery_timer.start(messages[0])
        results = await self._broker.append_all(messages, dedup_key)
        published = self._published
        for message, result in zip(messages, results, strict=True):
            if result.replayed:
                self._count_result(result, message.id, MESSAGE)
            else:
                published[VOLATILE if message.volatile else MESSAGE] += 1
        return results

    async def disconnect_user(
        self,
        user: str,
        *,
        namespace: str | None,
        exclude: frozenset[str],
        revoke: bool,
        dedup_key: DedupKey | None = None,
    ) -> PublishResult:
        """End a user's connections in one namespace, or in all for None; with ``revoke`` reject older tokens as well.

        Raises: what ``Broker.append`` raises.
        """
        command = DisconnectCommand(
            id=new_id(),
            user=user,
            namespaces=self._namespaces if namespace is None else (namespace,),
            at=self._clock.now(),
            exclude=exclude,
            revoke=revoke,
        )
        return await self.disconnect(command, dedup_key)

    async def disconnect(
        self, command: DisconnectCommand, dedup_key: DedupKey | None = None
    ) -> PublishResult:
        """Return once the broker has the disconnect command.

        Raises: what ``Broker.append`` raises.
        """
        result = await self._broker.append(command, dedup_key)
        self._count_result(result, command.id, DISCONNECT)
        return result

    async def disconnect_room(
        self,
        room: str,
        *,
        namespace: str | None,
        exclude: frozenset[str],
        dedup_key: DedupKey | None = None,
    ) -> PublishResult:
        """End the connections in a room of one namespace, or of all for None.

        Raises: what ``Broker.append`` raises.
        """
        command = DisconnectCommand(
            id=new_id(),
            user="",
            namespaces=self._namespaces if namespace is None else (namespace,),
            at=self._clock.now(),
            exclude=exclude,
            room=room,
        )
        result = await self._broker.append(command, dedup_key)
        self._count_result(result, command.id, DISCONNECT)
        return result

    def _count_result(self, result: PublishResult, entry_id: str, kind: str) -> None:
        if result.replayed:
            # An earlier request did the work, and this entry is never delivered.
            self._delivery_timer.cancel(entry_id)
            self._replays.count()
        else:
            self._published[kind] += 1
            if result.dropped:
                self._dropped.count(amount=result.dropped)
