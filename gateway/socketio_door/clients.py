"""One client: its transport session, its connections in the namespaces, and the link to each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.domain.endings import Ending
from gateway.hub import Connection
from gateway.ports import Clock, Frames, Socket, Timer
from gateway.socketio_door import encoding
from gateway.transport.session import Session


class Client:
    """Everything that came through one transport session."""

    __slots__ = (
        "connecting",
        "connections",
        "errors_told_at",
        "first_join",
        "lane",
        "leaving_soon",
        "received",
        "received_at",
        "session",
    )

    def __init__(self, session: Session, first_join: Timer) -> None:
        """``first_join`` closes the transport when no namespace was joined by then."""
        self.session = session
        self.connections: dict[str, Connection] = {}
        self.connecting: frozenset[str] = frozenset()
        self.first_join = first_join
        self.lane: asyncio.Lock | None = None
        """Of those who read the history, on whichever of its connections."""
        self.leaving_soon = False
        """Nothing is joined, after a refusal or an end, and ``first_join`` was set to a few seconds."""
        self.errors_told_at = float("-inf")
        self.received = 0.0
        self.received_at = 0.0

    def exceeds(self, messages_per_second: float, clock: Clock) -> bool:
        """Count one received message; True when they come faster than that, beyond a burst of two seconds' worth."""
        now = clock.monotonic()
        drained = (now - self.received_at) * messages_per_second
        self.received = max(0.0, self.received - drained) + 1
        self.received_at = now
        return self.received > max(1.0, 2 * messages_per_second)


class SocketLink:
    """Sends to one connection; satisfies ``hub.Link``."""

    __slots__ = ("_client", "_namespace", "_put_out")

    def __init__(
        self, client: Client, namespace: str, put_out: Callable[[Client, str, Ending], None]
    ) -> None:
        """``put_out`` takes the connection out of the house once its client was told."""
        self._client = client
        self._namespace = namespace
        self._put_out = put_out

    @property
    def transport(self) -> str:
        return self._client.session.transport

    @property
    def direct(self) -> Socket | None:
        """Where frames for this client go out as they are."""
        return self._client.session.direct

    def send(self, frames: Frames, *, volatile: bool) -> bool:
        """Send a pushed message; whether it was taken."""
        return self._client.session.send(frames, volatile=volatile)

    def send_together(self, *frames: Frames) -> None:
        """Send packets in one write where that is possible."""
        self._client.session.send_together(*frames)

    @property
    def is_drained(self) -> bool:
        """Whether little of what was sent waits to be read."""
        return self._client.session.is_drained

    @property
    def lane(self) -> asyncio.Lock:
        """Held by the one who reads the history for a connection on this transport: they share an outbox."""
        if self._client.lane is None:
            self._client.lane = asyncio.Lock()
        return self._client.lane

    async def drained(self) -> None:
        """Wait until little of what was sent waits to be read, or the client is gone."""
        done = asyncio.Event()
        self._client.session.when_drained(done.set)
        await done.wait()

    def tell(self, event: str, payload: dict[str, object]) -> None:
        """Send one of the gateway's own events."""
        self._client.session.send(encoding.event(self._namespace, event, payload))

    def end(self, ending: Ending) -> None:
        """End this connection the way the table of endings has it."""
        session = self._client.session
        if ending.code is not None:
            self.tell("error", {"code": ending.code, "message": ending.message})
        if ending.goodbye:
            session.send(encoding.disconnect(self._namespace))
        elif ending.close_code is not None:
            session.end(ending.close_code, ending.reason)
        else:
            session.abort(ending.reason)
        self._put_out(self._client, self._namespace, ending)
