"""The way in: sessions, packets and events of clients.

Every refusal as the CONNECT_ERROR that the client's ``connect_error`` handler gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from gateway.domain.endings import (
    DRAINING,
    FLOODING,
    MESSAGE_TOO_LARGE,
    NOTHING_JOINED,
    PROTOCOL_ERROR,
    Ending,
)
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, KeysUnavailable, Refused
from gateway.domain.sampling import Sampling
from gateway.hub import Connection
from gateway.ports import Clock, Schedule
from gateway.socketio_door import encoding
from gateway.socketio_door.access_log import AccessLog
from gateway.socketio_door.clients import Client
from gateway.socketio_door.overrides import Acknowledge, AttachmentsTooLarge, PacketServer
from gateway.socketio_door.refresh import EVENT as REFRESH
from gateway.socketio_door.refresh import Refreshing
from gateway.socketio_door.welcome import Welcome
from gateway.transport.packets import Frames
from gateway.transport.session import Session

INVALID_NAMESPACE: Final[Mapping[str, object]] = {"message": "Invalid namespace"}
"""Exactly as Node's server says it."""


def authentication_error(error: Refused) -> dict[str, object]:
    """What a client is told that may not be here."""
    return {"message": "Authentication error", "data": {"code": error.code}}


REFUSED_CLOSE_SECONDS: Final = 5.0
"""How long a transport stays open after a refusal without having joined anything."""
_ERROR_EVENT_SECONDS: Final = 1.0


class Meter(Protocol):
    """Counts what happens at this door."""

    def connection_opened(self, namespace: str, transport: str) -> None: ...

    def connection_closed(self, namespace: str, reason: str) -> None: ...

    def connection_refused(self, code: str) -> None: ...

    def volatile_skipped(self, reason: str) -> None: ...

    def message_received(self, kind: str) -> None: ...


class Depart(Protocol):
    """Takes a connection out of the house; see ``gateway.application.reporting``."""

    def __call__(self, connection: Connection, *, keeps_session: bool = True) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DoorOptions:
    """What an operator can say of this door; ``messages_per_second`` None means off."""

    namespaces: tuple[str, ...]
    connect_timeout_seconds: float
    messages_per_second: float | None
    max_attachments_bytes: int


class Door:
    """Stands between the transport and python-socketio: satisfies ``transport.server.Application`` and
    ``overrides.Events``.
    """

    def __init__(
        self,
        options: DoorOptions,
        *,
        welcome: Callable[[Callable[[Client, str, Ending], None]], Welcome],
        refreshing: Refreshing,
        depart: Depart,
        upgraded: Callable[[Connection], None],
        schedule: Schedule,
        clock: Clock,
        meter: Meter,
        sampling: Sampling | None = None,
    ) -> None:
        """``depart`` takes a connection out of the house; ``welcome`` is made for this door. Of connections that end
        well ``sampling`` says which are logged; None: all are."""
        self._options = options
        self._welcome = welcome(self._put_out)
        self._refreshing = refreshing
        self._depart = depart
        self._upgraded = upgraded
        self._schedule = schedule
        self._clock = clock
        self._meter = meter
        self._log = AccessLog(clock=clock, sampling=sampling or Sampling())
        self._clients: dict[str, Client] = {}
        self.newcomers = 0
        """How many sessions have joined no namespace yet."""
        self._packets = PacketServer(
            self, namespaces=list(options.namespaces), max_attachments_bytes=options.max_attachments_bytes
        )

    # from the transport

    def session_opened(self, session: Session) -> None:
        """A transport is open; it has some time to join a namespace."""
        deadline = self._schedule.after(
            self._options.connect_timeout_seconds, partial(_close, session, NOTHING_JOINED)
        )
        self._clients[session.sid] = Client(session, deadline)
        self.newcomers += 1

    def session_closed(self, session: Session, reason: str) -> None:
        """The transport is gone, and with it every connection on it."""
        self._packets.forget(session.sid)
        client = self._clients.pop(session.sid, None)
        if client is None:
            return
        client.first_join.cancel()
        if not session.joined:
            self.newcomers -= 1
            self._log.never_joined(client, reason)
        for connection in client.connections.values():
            self._leave(client, connection, reason)
        client.connections.clear()

    def session_upgraded(self, session: Session) -> None:
        """Its connections are on a WebSocket from now on."""
        client = self._clients.get(session.sid)
        for connection in client.connections.values() if client is not None else ():
            self._upgraded(connection)

    def volatile_skipped(self, reason: str) -> None:
        self._meter.volatile_skipped(reason)

    async def message_received(self, session: Session, data: str | bytes) -> None:
        """Act on one message of a client; a malformed one closes its transport, as on the reference server."""
        client = self._clients.get(session.sid)
        if client is None:
            return
        self._meter.message_received(encoding.kind_of(data))
        rate = self._options.messages_per_second
        if rate is not None and client.exceeds(rate, self._clock):
            self._flooded(client)
            return
        try:
            await self._packets.message_received(session.sid, data)
        except AttachmentsTooLarge:
            _close(session, MESSAGE_TOO_LARGE)
        except Exception as error:  # noqa: BLE001  # the decoder raises whatever its input provokes
            self._log.malformed(client, error)
            _close(session, PROTOCOL_ERROR)

    # from the composition root

    @property
    def guests(self) -> list[Client]:
        """Everybody who is here now, whoever came first at the head."""
        return list(self._clients.values())

    def ask_to_leave(self, client: Client, ending: Ending) -> None:
        """End the transport of one client with all on it; who never joined a namespace is not waited for."""
        if client.session.closed:
            return
        if client.connections and ending.close_code is not None:
            client.session.end(ending.close_code, ending.reason)
        else:
            client.session.abort(ending.reason)

    def send_away(self, ending: Ending) -> None:
        """Ask everybody to leave at once."""
        for client in self.guests:
            self.ask_to_leave(client, ending)

    # from python-socketio

    async def connect_asked(self, engine_sid: str, namespace: str, auth: object) -> None:
        """A CONNECT packet."""
        client = self._clients[engine_sid]
        if namespace in client.connections or namespace in client.connecting:
            # Without this check a second CONNECT would silently make a second sid.
            _close(client.session, PROTOCOL_ERROR)
        elif namespace not in self._options.namespaces:
            self._log.refused(client, "invalid_namespace", "there is no such namespace")
            self._refuse(client, namespace, "invalid_namespace", INVALID_NAMESPACE)
        else:
            await self._connect(client, namespace, auth)

    def client_disconnects(self, engine_sid: str, namespace: str) -> None:
        """A DISCONNECT packet: it leaves this namespace for good."""
        client = self._clients[engine_sid]
        connection = client.connections.pop(namespace, None)
        if connection is not None:
            self._leave(client, connection, "client_disconnect", keeps_session=False)
            self._expect_another_join(client)

    async def event_received(
        self, engine_sid: str, namespace: str, data: list[object], acknowledge: Acknowledge | None
    ) -> None:
        """An EVENT packet: ``data`` is its name and its arguments."""
        client = self._clients[engine_sid]
        connection = client.connections.get(namespace)
        if connection is None:
            # Before anything was joined this is no Socket.IO client; later it may have crossed with our DISCONNECT.
            if not client.session.joined:
                _close(client.session, PROTOCOL_ERROR)
            return
        if data[0] != REFRESH:
            await self._answer_unknown(client, connection, acknowledge)
            return
        answer = await self._refreshing.refresh(connection, tuple(data[1:]))
        self._log.refreshed(connection, None if answer["ok"] else str(answer["code"]))
        if acknowledge is not None:
            await acknowledge(answer)

    def connection_of(self, engine_sid: str, namespace: str) -> str | None:
        """The sid in that namespace, if it was joined."""
        client = self._clients.get(engine_sid)
        connection = client.connections.get(namespace) if client is not None else None
        return connection.sid if connection is not None else None

    def send(self, engine_sid: str, frames: Frames) -> None:
        """Send a packet that python-socketio made."""
        client = self._clients.get(engine_sid)
        if client is not None:
            client.session.send(frames)

    # steps

    async def _connect(self, client: Client, namespace: str, auth: object) -> None:
        client.connecting |= {namespace}
        try:
            connection = await self._welcome.connect(client, namespace, auth)
        except Refused as refusal:
            self._log.refused(client, refusal.code, refusal.message)
            self._refuse(client, namespace, refusal.code, authentication_error(refusal))
        except (BrokerUnavailable, BrokerTimeout, KeysUnavailable) as error:
            # The stock client comes back after a closed transport, but never after a CONNECT_ERROR.
            self._meter.connection_refused(error.code)
            self._log.refused(client, error.code, error.message, ours=True)
            _close(client.session, DRAINING)
        except Exception:  # noqa: BLE001  # the door: AccessLog.failed logs it with its traceback
            self._log.failed(client, namespace)
            self._meter.connection_refused("internal_error")
            _close(client.session, DRAINING)
        else:
            if connection is not None:
                self._joined(client, connection)
        finally:
            client.connecting -= {namespace}

    def _joined(self, client: Client, connection: Connection) -> None:
        if not client.session.joined:
            client.session.joined = True
            self.newcomers -= 1
        self._meter.connection_opened(connection.namespace, connection.link.transport)
        self._log.accepted(client, connection)

    def _refuse(self, client: Client, namespace: str, code: str, payload: Mapping[str, object]) -> None:
        self._meter.connection_refused(code)
        client.session.send(encoding.connect_error(namespace, payload))
        self._expect_another_join(client)

    def _expect_another_join(self, client: Client) -> None:
        """A transport without a namespace is closed soon, unless it joins one; being refused again wins no time."""
        if client.connections or client.session.closed or client.leaving_soon:
            return
        client.leaving_soon = True
        client.first_join.cancel()
        client.first_join = self._schedule.after(
            REFUSED_CLOSE_SECONDS, partial(_close, client.session, NOTHING_JOINED)
        )

    async def _answer_unknown(
        self, client: Client, connection: Connection, acknowledge: Acknowledge | None
    ) -> None:
        message = "the gateway does not know this event; backends push over REST"
        if acknowledge is not None:
            await acknowledge({"error": {"code": "unknown_event", "message": message}})
            return
        now = self._clock.monotonic()
        if now - client.errors_told_at >= _ERROR_EVENT_SECONDS:
            client.errors_told_at = now
            connection.link.tell("error", {"status": "error", "code": "unknown_event", "message": message})

    def _flooded(self, client: Client) -> None:
        for connection in list(client.connections.values()):
            connection.link.end(FLOODING)
        if not client.connections:
            _close(client.session, NOTHING_JOINED)

    def _put_out(self, client: Client, namespace: str, ending: Ending) -> None:
        """A link ended its connection; the client was told. But for a goodbye, its transport ends with all on it."""
        for ended in [namespace] if ending.goodbye else list(client.connections):
            connection = client.connections.pop(ended, None)
            if connection is not None:
                self._leave(client, connection, ending.reason, keeps_session=ending.keeps_session)
        self._expect_another_join(client)

    def _leave(
        self, client: Client, connection: Connection, reason: str, *, keeps_session: bool = True
    ) -> None:
        self._depart(connection, keeps_session=keeps_session)
        self._meter.connection_closed(connection.namespace, reason)
        self._log.closed(client, connection, reason)


def _close(session: Session, ending: Ending) -> None:
    if ending.close_code is not None:
        session.end(ending.close_code, ending.reason)
