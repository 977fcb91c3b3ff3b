"""One client: its Engine.IO session, its connections in the namespaces, and the transport of each connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.domain.disconnects import UNAUTHENTICATED_LIMIT, DisconnectReason
from gateway.domain.rate_limit import FULL, take_token, wait_seconds
from gateway.hub import Connection
from gateway.interfaces import Clock, Frames, Socket, Timer
from gateway.socketio_server import packets
from gateway.transport.session import EngineSession
from gateway.transport.transports import FrameCount
from gateway.transport.unauthenticated import UnauthenticatedSessions


class ConnectionEvents(Protocol):
    """What happens to the connections of a client; the server implements it and gives it to each client."""

    def connection_closed(self, client: Client, namespace: str, reason: DisconnectReason, /) -> None:
        """The gateway has ended a connection and has sent its client the packets that belong to the reason."""
        ...


class Client:
    """One client with everything on its Engine.IO session."""

    __slots__ = (
        "connecting",
        "connections",
        "events",
        "message_tat",
        "join_deadline",
        "replay_lock",
        "idle_closing",
        "session",
        "tokens",
    )

    def __init__(self, session: EngineSession, join_deadline: Timer, events: ConnectionEvents) -> None:
        """``join_deadline`` closes the transport when no namespace was joined by then."""
        self.session = session
        self.events = events
        self.connections: dict[str, Connection] = {}
        self.connecting: frozenset[str] = frozenset()
        self.join_deadline = join_deadline
        self.replay_lock: asyncio.Lock | None = None
        """Held while missed messages are replayed to any connection of the client."""
        self.idle_closing = False
        """No namespace is joined after a rejection or an end, and ``join_deadline`` was set to a few seconds."""
        self.message_tat = FULL
        """The bucket of received messages: a theoretical arrival time (``gateway.domain.rate_limit``)."""
        self.tokens = FrameCount()
        """Tokens that the client has sent, in CONNECT packets and in ``auth:refresh``."""

    def exceeds(self, messages_per_second: float, clock: Clock) -> bool:
        """Count one received message; return True if the rate is exceeded, beyond a burst of two seconds."""
        now, tat = clock.monotonic(), self.message_tat
        if tat <= now:  # The bucket is full.
            self.message_tat = now + 1 / messages_per_second
            return False
        # A message that came too fast counts too: a client that keeps flooding gets no message through.
        self.message_tat = take_token(tat, now, messages_per_second)
        return wait_seconds(tat, now, messages_per_second, max(1.0, 2 * messages_per_second)) > 0


class Clients:
    """The clients of one replica. ``SocketIOServer`` adds and removes them; other components may disconnect them."""

    def __init__(self, clock: Clock) -> None:
        self.by_sid: dict[str, Client] = {}
        """By the sid of their Engine.IO session, in the order in which the sessions were opened."""
        self.unauthenticated = UnauthenticatedSessions(clock)

    def make_room(self) -> bool:
        """Close a session that has long joined no namespace, so that another client is admitted."""
        session = self.unauthenticated.next_to_close()
        if session is None:
            return False
        end_session(session, UNAUTHENTICATED_LIMIT)
        return True

    def disconnect(self, client: Client, reason: DisconnectReason) -> None:
        """End the transport of a client with all its connections; at once if it has joined no namespace."""
        if client.session.is_closed:
            return
        if client.connections:
            end_session(client.session, reason)
        else:
            client.session.abort(reason.reason)

    def disconnect_all(self, reason: DisconnectReason) -> None:
        """End the transports of all clients."""
        for client in list(self.by_sid.values()):
            self.disconnect(client, reason)


class SocketIOTransport:
    """Sends to one connection; satisfies ``hub.ClientTransport``."""

    __slots__ = ("_client", "_namespace")

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    @property
    def name(self) -> str:
        return self._client.session.transport

    @property
    def socket(self) -> Socket | None:
        """The socket that frames for this client may be written to directly, if there is one."""
        return self._client.session.socket

    def send(self, frames: Frames, *, volatile: bool) -> bool:
        """Send a message; return whether it was accepted."""
        return self._client.session.send(frames, volatile=volatile)

    def batch(self, *frames: Frames) -> None:
        """Send packets, in one write if possible."""
        self._client.session.batch(*frames)

    @property
    def is_closed(self) -> bool:
        """Whether the client has left."""
        return self._client.session.is_closed

    @property
    def is_drained(self) -> bool:
        """Whether few of the sent bytes wait to be read."""
        return self._client.session.is_drained

    @property
    def replay_lock(self) -> asyncio.Lock:
        """Held while history is read for a connection of this client: all its connections share one send buffer."""
        if self._client.replay_lock is None:
            self._client.replay_lock = asyncio.Lock()
        return self._client.replay_lock

    async def wait_drained(self) -> None:
        """Wait until the session is drained or closed."""
        done = asyncio.Event()
        self._client.session.when_drained(done.set)
        await done.wait()

    @property
    def pings_sent(self) -> int:
        """How many pings were sent to the client."""
        return self._client.session.pings_sent

    def after_pong(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, when a pong answers a ping that is sent from now on; never if none does."""
        self._client.session.after_pong(callback)

    def emit(self, event: str, payload: dict[str, object]) -> None:
        """Send one of the gateway's own events."""
        self._client.session.send(packets.event(self._namespace, event, payload))

    def disconnect(self, reason: DisconnectReason) -> None:
        """End the connection as its reason requires (``gateway.domain.disconnects``)."""
        session = self._client.session
        if reason.code is not None:
            self.emit("error", {"code": reason.code, "message": reason.message})
        if reason.sends_packet:
            session.send(packets.disconnect(self._namespace))
        else:
            end_session(session, reason)
        self._client.events.connection_closed(self._client, self._namespace, reason)


def end_session(session: EngineSession, reason: DisconnectReason) -> None:
    """Close the transport of a client as the reason requires."""
    if reason.aborts:
        session.abort(reason.reason)
    else:
        session.end(reason.close_code, reason.reason, reconnects=reason.reconnects)
