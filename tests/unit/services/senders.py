"""Clients that send events over the memory state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.domain.event_catalogue import EventCatalogue
from gateway.hub import Connection
from tests.support.metrics import counted
from tests.support.waiter import await_until, finished
from tests.unit.hub.transports import RecordingTransport
from tests.unit.services.catalogue import RecordingWebhooks
from tests.unit.services.harness import Services


class Sender:
    """A live connection that sends events."""

    def __init__(self, services: Services, connection: Connection, transport: RecordingTransport) -> None:
        self._services = services
        self.connection = connection
        self.transport = transport
        self.acks: list[tuple[object, ...]] = []
        self.order: list[str] = []
        """Events and acks in the order in which they were sent to the client."""
        transport.on_send = lambda: self.order.append("event")

    async def send(self, event: str, *arguments: object) -> None:
        """Send an event without an ack."""
        await finished(self._services.client_events.handle(self.connection, event, arguments, None))

    async def start(self, event: str, *arguments: object) -> None:
        """Send an event that wants an ack."""
        handling = self._services.client_events.handle(self.connection, event, arguments, self._acknowledge)
        await finished(handling)

    async def ask(self, event: str, *arguments: object) -> Any:
        """Send an event; wait for its ack and return the first argument."""
        (first,) = await self.ask_all(event, *arguments)
        return first

    async def ask_all(self, event: str, *arguments: object) -> tuple[object, ...]:
        before = len(self.acks)
        await self.start(event, *arguments)
        return (await self.wait_acks(before + 1))[-1]

    async def wait_acks(self, number: int) -> Sequence[tuple[object, ...]]:
        await await_until(lambda: len(self.acks) >= number, f"{number} acks", pause_seconds=0)
        return self.acks

    async def code(self, event: str, *arguments: object) -> str:
        answer = await self.ask(event, *arguments)
        return str(answer["error"]["code"])

    @property
    def events(self) -> list[str]:
        return self.transport.events

    def _acknowledge(self, *arguments: object) -> None:
        self.order.append("ack")
        self.acks.append(arguments)


class Setup:
    """The services with a catalogue and webhooks."""

    def __init__(self, **limits: Any) -> None:
        self.webhooks = RecordingWebhooks()
        self.services = Services(webhooks=self.webhooks, **limits)

    def use(self, events: EventCatalogue) -> None:
        self.services.client_events.catalogue = events

    async def connect(self, user: str, *rooms: str) -> Sender:
        connection, transport = await self.services.connect_live(self.services.identity(user, *rooms))
        return Sender(self.services, connection, transport)

    def outcomes(self) -> dict[str, float]:
        return counted(self.services.metrics, "client_events_total")
