"""The Socket.IO server: what happens on sessions, packets and events of clients.

A rejected connection gets a CONNECT_ERROR, which calls the ``connect_error`` handler of the client.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from gateway import interfaces
from gateway.domain.bounded_body import ArrivingBodies, BodyDropped
from gateway.domain.disconnects import (
    DRAINING,
    MESSAGE_TOO_LARGE,
    NO_NAMESPACE,
    PARSER_MISMATCH,
    PROTOCOL_ERROR,
    RATE_LIMITED,
    TOKEN_RATE,
    DisconnectReason,
)
from gateway.domain.errors import (
    BrokerTimeout,
    BrokerUnavailable,
    ConnectionRejected,
    ConnectsTooFast,
    KeysStale,
    KeysUnavailable,
    release_frames,
)
from gateway.domain.sampling import LineLimiter, Sampling
from gateway.hub import Connection
from gateway.interfaces import Clock, Schedule
from gateway.metrics import MetricFactory, one_label
from gateway.services.client_events import ClientEvents
from gateway.socketio_server import packets
from gateway.socketio_server.access_log import CLIENT_DISCONNECT, AccessLog, ConnectionCounts
from gateway.socketio_server.client import Client, Clients, end_session
from gateway.socketio_server.client_acks import ClientAcks
from gateway.socketio_server.connect_handshake import ConnectHandshake, authentication_error
from gateway.socketio_server.python_socketio import Acknowledge, PacketServer, ParserMismatch
from gateway.socketio_server.token_refresh import EVENT as REFRESH
from gateway.socketio_server.token_refresh import TokenRefresh
from gateway.socketio_server.unfinished_packets import AttachmentLimits, AttachmentsTooLarge
from gateway.transport.session import EngineSession, Handling
from gateway.transport.transports import FrameRate

INVALID_NAMESPACE: Final[Mapping[str, object]] = {"message": "Invalid namespace"}
"""Exactly as from Node's server."""
REJECTED_CLOSE_SECONDS: Final = 5.0
"""How long a transport without a namespace stays open after a rejection."""
TOKENS_PER_SECOND: Final = 1.0
"""How many tokens a client may send for long, in CONNECT packets and in ``auth:refresh``."""
TOKEN_BURST: Final = 10
"""How many at once, and two more for each namespace."""


class OnDisconnect(Protocol):
    """Removes a connection from hub and shared state; see ``gateway.services.disconnect``."""

    def __call__(self, connection: Connection, *, keeps_session: bool = True) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SocketIOOptions:
    """Settings of the server. ``messages_per_second``: None means off."""

    namespaces: tuple[str, ...]
    transports: tuple[str, ...]
    connect_timeout_seconds: float
    messages_per_second: float | None
    attachments: AttachmentLimits


class SocketIOServer:
    """Stands between the transport and python-socketio.

    Satisfies ``transport.server.EngineObserver``, ``python_socketio.ServerEvents`` and ``client.ConnectionEvents``.
    """

    def __init__(
        self,
        options: SocketIOOptions,
        *,
        clients: Clients,
        handshake: ConnectHandshake,
        token_refresh: TokenRefresh,
        client_events: ClientEvents,
        acks: ClientAcks,
        disconnect: OnDisconnect,
        on_upgraded: Callable[[Connection], None],
        schedule: Schedule,
        clock: Clock,
        volatile_skipped: Callable[[str], None],
        metrics: MetricFactory,
        arriving: ArrivingBodies | None = None,
        sampling: Sampling | None = None,
        lines: LineLimiter | None = None,
    ) -> None:
        """``clients`` is empty and filled here. ``disconnect`` removes a connection from hub and shared state.

        ``on_upgraded`` is called for each connection that moved to a WebSocket, ``volatile_skipped`` with the reason
        why a volatile message was not sent. ``arriving`` bounds binary packets whose attachments have not all arrived,
        together with bodies; None: those of this server alone. ``sampling`` selects which routine disconnects are
        logged; None: all. ``lines`` limits all other lines that clients cause; None: all are written.
        """
        self._options = options
        self._handshake = handshake
        self._token_refresh = token_refresh
        self._client_events = client_events
        self._acks = acks
        self._disconnect = disconnect
        self._on_upgraded = on_upgraded
        self._schedule = schedule
        self._clock = clock
        self._volatile_skipped = volatile_skipped
        burst = TOKEN_BURST + 2 * len(options.namespaces)
        self._token_rate = FrameRate(TOKENS_PER_SECOND, burst, frame_bytes=math.inf)
        self._log = AccessLog(clock=clock, sampling=sampling or Sampling(), lines=lines)
        self._counts = ConnectionCounts(metrics, namespaces=options.namespaces, transports=options.transports)
        self._clients = clients
        self._packets = PacketServer(
            self,
            namespaces=list(options.namespaces),
            limits=options.attachments,
            schedule=schedule,
            arriving=arriving or ArrivingBodies(),
        )
        self._create_metrics(metrics)

    def _create_metrics(self, metrics: MetricFactory) -> None:
        self._received = metrics.counter(
            "client_messages",
            "Messages received from clients, by the kind of their packet.",
            ("kind",),
            one_label(packets.KINDS),
        )
        metrics.callback_gauge(
            "engineio_sessions_unauthenticated",
            "Engine.IO sessions that have joined no namespace yet.",
            read=lambda: len(self._clients.unauthenticated),
        )

    # from the transport

    def session_opened(self, session: EngineSession) -> None:
        """Start the time in which a client has to join a namespace."""
        deadline = self._schedule.after(
            self._options.connect_timeout_seconds, partial(end_session, session, NO_NAMESPACE)
        )
        self._clients.by_sid[session.sid] = Client(session, deadline, self)
        self._clients.unauthenticated.add(session)

    def session_closed(self, session: EngineSession, reason: str) -> None:
        """Remove the client of a closed session and all its connections."""
        self._packets.forget(session.sid)
        client = self._clients.by_sid.pop(session.sid, None)
        if client is None:
            return
        client.join_deadline.cancel()
        if not session.joined:
            self._clients.unauthenticated.remove(session)
            self._log.unused(client, reason)
        for connection in client.connections.values():
            self._remove(client, connection, reason)
        client.connections.clear()

    def session_upgraded(self, session: EngineSession) -> None:
        """Report that the connections of a client have moved to a WebSocket."""
        client = self._clients.by_sid.get(session.sid)
        for connection in client.connections.values() if client is not None else ():
            self._on_upgraded(connection)

    def volatile_skipped(self, reason: str) -> None:
        self._volatile_skipped(reason)

    def message_received(self, session: EngineSession, data: str | bytes) -> Handling:
        """Handle one message of a client; a malformed one closes its transport, as on the reference server."""
        client = self._clients.by_sid.get(session.sid)
        if client is None:
            return None
        self._received.count((packets.kind_of(data),))
        if self._acks.take(client, data):
            return None
        rate = self._options.messages_per_second
        if rate is not None and not self._belongs_to_ack(client, data) and client.exceeds(rate, self._clock):
            self._disconnect_rate_limited(client)
            return None
        try:
            handling = self._packets.message_received(session.sid, data)
        except Exception as error:  # noqa: BLE001  # the decoder raises any exception
            self._message_failed(client, error)
            return None
        return None if handling is None else self._finish(client, handling)

    def _belongs_to_ack(self, client: Client, data: str | bytes) -> bool:
        """Whether a message is a part of a binary acknowledgement that was asked of the client."""
        unfinished = self._packets.unfinished.get(client.session.sid)
        if unfinished is not None:
            return unfinished.is_asked
        return (
            isinstance(data, str)
            and data.startswith(packets.BINARY_ACK)
            and self._acks.is_asked(client, data)
        )

    # from the connections

    def connection_closed(self, client: Client, namespace: str, reason: DisconnectReason, /) -> None:
        """Remove the connection that the gateway has ended. Unless the reason sends a DISCONNECT packet, its transport
        has ended too: then every connection on it is removed."""
        for ended in [namespace] if reason.sends_packet else list(client.connections):
            connection = client.connections.pop(ended, None)
            if connection is not None:
                self._remove(client, connection, reason.reason, keeps_session=reason.keeps_session)
        self._start_join_deadline(client)

    # from python-socketio

    async def on_connect(self, engine_sid: str, namespace: str, auth: object) -> None:
        """Handle a CONNECT packet."""
        client = self._clients.by_sid[engine_sid]
        if self._sends_too_many_tokens(client):
            end_session(client.session, TOKEN_RATE)
        elif namespace in client.connections or namespace in client.connecting:
            # Without this check a second CONNECT would silently create a second sid.
            end_session(client.session, PROTOCOL_ERROR)
        elif namespace not in self._options.namespaces:
            self._log.rejected(client, "invalid_namespace", "there is no such namespace")
            self._reject(client, namespace, "invalid_namespace", INVALID_NAMESPACE)
        else:
            await self._connect(client, namespace, auth)

    def on_disconnect(self, engine_sid: str, namespace: str) -> None:
        """Handle a DISCONNECT packet: the client leaves the namespace and cannot resume its connection."""
        client = self._clients.by_sid[engine_sid]
        connection = client.connections.pop(namespace, None)
        if connection is not None:
            self._remove(client, connection, CLIENT_DISCONNECT, keeps_session=False)
            self._start_join_deadline(client)

    def on_event(
        self,
        engine_sid: str,
        namespace: str,
        data: list[object],
        acknowledge: Acknowledge | None,
        *,
        are_plain: bool,
    ) -> Handling:
        """Handle an EVENT packet; ``data`` is its name and its arguments."""
        client = self._clients.by_sid[engine_sid]
        connection = client.connections.get(namespace)
        if connection is None:
            # Before the first namespace is joined this is a protocol error; later it may have crossed our DISCONNECT.
            if not client.session.joined:
                end_session(client.session, PROTOCOL_ERROR)
            return None
        name, *arguments = data
        if name == REFRESH:
            return self._refresh(client, connection, arguments, acknowledge)
        return self._client_events.handle(connection, name, arguments, acknowledge, are_plain=are_plain)

    def is_asked(self, engine_sid: str, text: str) -> bool:
        """Whether a packet has an acknowledgement that a backend asked for."""
        return self._acks.is_asked(self._clients.by_sid[engine_sid], text)

    def on_binary_ack(self, engine_sid: str, text: str, attachments: Sequence[bytes]) -> None:
        """Handle an acknowledgement whose attachments have arrived."""
        self._acks.take_binary(self._clients.by_sid[engine_sid], text, attachments)

    def on_failure(self, engine_sid: str, error: Exception) -> None:
        """End a session whose binary packet is overdue or takes memory that others need."""
        client = self._clients.by_sid.get(engine_sid)
        if client is not None:
            self._message_failed(client, error)

    def connection_of(self, engine_sid: str, namespace: str) -> str | None:
        """Return the sid in the namespace, or None if it is not joined."""
        client = self._clients.by_sid.get(engine_sid)
        connection = client.connections.get(namespace) if client is not None else None
        return connection.sid if connection is not None else None

    def send(self, engine_sid: str, frames: interfaces.Frames) -> None:
        """Send a packet that python-socketio has encoded."""
        client = self._clients.by_sid.get(engine_sid)
        if client is not None:
            client.session.send(frames)

    # steps

    async def _finish(self, client: Client, handling: Coroutine[Any, Any, None]) -> None:
        try:
            await handling
        except Exception as error:  # noqa: BLE001  # as in message_received
            self._message_failed(client, error)

    def _message_failed(self, client: Client, error: Exception) -> None:
        if isinstance(error, AttachmentsTooLarge):
            end_session(client.session, MESSAGE_TOO_LARGE)
        elif isinstance(error, BodyDropped):
            client.session.abort("payload_rejected")
        elif isinstance(error, ParserMismatch) and not client.session.joined:
            self._log.parser_mismatch(client)
            end_session(client.session, PARSER_MISMATCH)
        else:
            self._log.malformed(client, error)
            end_session(client.session, PROTOCOL_ERROR)
        release_frames(error)

    def _sends_too_many_tokens(self, client: Client) -> bool:
        """Count one token of a client; each costs the check of a signature, and round trips of the shared state."""
        return client.tokens.exceeds(self._token_rate, self._clock.monotonic(), 1, 0)

    async def _refresh(
        self,
        client: Client,
        connection: Connection,
        arguments: Sequence[object],
        acknowledge: Acknowledge | None,
    ) -> None:
        if self._sends_too_many_tokens(client):
            answer = self._token_refresh.reject_rate(math.ceil(1 / TOKENS_PER_SECOND))
        else:
            answer = await self._token_refresh.refresh(connection, tuple(arguments))
        self._log.refreshed(client, connection, None if answer["ok"] else str(answer["code"]))
        if acknowledge is not None:
            acknowledge(answer)

    async def _connect(self, client: Client, namespace: str, auth: object) -> None:
        client.connecting |= {namespace}
        try:
            connection = await self._handshake.connect(client, namespace, auth)
        except ConnectionRejected as rejection:
            self._log.rejected(client, rejection.code, rejection.message)
            self._reject(client, namespace, rejection.code, authentication_error(rejection))
            release_frames(rejection)
        except (BrokerUnavailable, BrokerTimeout, KeysUnavailable, ConnectsTooFast) as error:
            # The stock client reconnects after a closed transport, but never after a CONNECT_ERROR.
            self._counts.rejected(error.code)
            # A stale key set is often due to a client that made up a key id.
            is_server_side = not isinstance(error, KeysStale | ConnectsTooFast)
            self._log.rejected(client, error.code, error.message, is_server_side=is_server_side)
            end_session(client.session, DRAINING)
            release_frames(error)
        except Exception:  # noqa: BLE001  # outermost edge: AccessLog.failed logs it with its traceback
            self._log.failed(client, namespace)
            self._counts.rejected("internal_error")
            end_session(client.session, DRAINING)
        else:
            if connection is not None:
                self._joined(client, connection)
                await self._handshake.finish(connection)
        finally:
            client.connecting -= {namespace}

    def _joined(self, client: Client, connection: Connection) -> None:
        if not client.session.joined:
            client.session.joined = True
            self._clients.unauthenticated.remove(client.session)
        self._counts.opened(connection)
        self._log.accepted(client, connection)

    def _reject(self, client: Client, namespace: str, code: str, payload: Mapping[str, object]) -> None:
        self._counts.rejected(code)
        client.session.send(packets.connect_error(namespace, payload))
        self._start_join_deadline(client)

    def _start_join_deadline(self, client: Client) -> None:
        """Close a transport without a namespace soon unless it joins one; another rejection does not add time."""
        if client.connections or client.session.is_closed or client.idle_closing:
            return
        client.idle_closing = True
        client.join_deadline.cancel()
        client.join_deadline = self._schedule.after(
            REJECTED_CLOSE_SECONDS, partial(end_session, client.session, NO_NAMESPACE)
        )

    def _disconnect_rate_limited(self, client: Client) -> None:
        for connection in list(client.connections.values()):
            connection.transport.disconnect(RATE_LIMITED)
        if not client.connections:
            end_session(client.session, NO_NAMESPACE)

    def _remove(
        self, client: Client, connection: Connection, reason: str, *, keeps_session: bool = True
    ) -> None:
        self._disconnect(connection, keeps_session=keeps_session)
        self._client_events.connection_closed(connection)
        self._counts.closed(connection, reason)
        self._log.closed(client, connection, reason)
