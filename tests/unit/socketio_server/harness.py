"""The Socket.IO server over the memory state, with clients on recording writers."""

from __future__ import annotations

import asyncio
import json

from gateway.domain.bounded_body import ArrivingBodies
from gateway.domain.errors import TokenRejected
from gateway.domain.identity import Identity
from gateway.hub import Connection
from gateway.socketio_server.client import Clients
from gateway.socketio_server.client_acks import ClientAcks
from gateway.socketio_server.connect_handshake import ConnectHandshake, ConnectPace
from gateway.socketio_server.server import SocketIOOptions, SocketIOServer
from gateway.socketio_server.token_refresh import TokenRefresh
from gateway.socketio_server.unfinished_packets import AttachmentLimits
from gateway.transport.admission import Handshake
from gateway.transport.packets import message
from gateway.transport.session import EngineSession
from tests.support.metrics import counted
from tests.support.waiter import finished
from tests.unit.services.harness import Services
from tests.unit.transport.recording import RecordingWriter

CONNECT_TIMEOUT_SECONDS = 45.0
SEND_BUFFER_BYTES = 10_000
MAX_ATTACHMENTS_BYTES = 1_000
ATTACHMENT_SECONDS = 10.0
MAX_ARRIVING_BYTES = 10_000


class Verifier:
    """Accepts the tokens that a test defines. It fakes only the cryptography."""

    def __init__(self) -> None:
        self.known: dict[str, Identity] = {}
        self.fails: Exception | None = None
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def verify(self, token: str) -> Identity:
        self.entered.set()
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        if token not in self.known:
            raise TokenRejected("token_signature_invalid", "the signature is wrong")
        return self.known[token]


class SocketClient:
    """One client on a WebSocket."""

    def __init__(self, server: SocketIOServer, session: EngineSession, writer: RecordingWriter) -> None:
        self._server = server
        self.session = session
        self.writer = writer

    async def send(self, *packets: str | bytes) -> None:
        """Send Socket.IO packets."""
        for packet in packets:
            await finished(self._server.message_received(self.session, packet))

    @property
    def packets(self) -> list[str]:
        """The Socket.IO packets that the server sent."""
        return [text(frame)[1:] for frame in self.writer.frames]

    def events(self) -> list[list[object]]:
        """Return the events of the main namespace that the server sent."""
        return [json.loads(packet[1:]) for packet in self.packets if packet.startswith("2[")]


CONNECT_BURST = 20


class ServerHarness:
    """A Socket.IO server and its services."""

    def __init__(self, *, messages_per_second: float | None = None) -> None:
        self.services = Services()
        self.verifier = Verifier()
        self.upgraded: list[Connection] = []
        services = self.services
        self.clients = Clients(services.clock)
        self.arriving = ArrivingBodies(max_bytes=MAX_ARRIVING_BYTES)
        self.server = SocketIOServer(
            SocketIOOptions(
                namespaces=("/", "/events"),
                transports=("polling", "websocket"),
                connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS,
                messages_per_second=messages_per_second,
                attachments=AttachmentLimits(
                    max_bytes=MAX_ATTACHMENTS_BYTES, timeout_seconds=ATTACHMENT_SECONDS
                ),
            ),
            clients=self.clients,
            handshake=ConnectHandshake(
                verifier=self.verifier,
                connector=services.connector,
                pace=ConnectPace(clock=services.clock, schedule=services.schedule, burst=CONNECT_BURST),
                replayer=services.replayer,
                token_expiry=services.token_expiry,
                disconnect=services.disconnector.disconnect,
                metrics=services.metrics,
            ),
            token_refresh=TokenRefresh(
                verifier=self.verifier,
                connector=services.connector,
                token_expiry=services.token_expiry,
                metrics=services.metrics,
            ),
            client_events=services.client_events,
            acks=ClientAcks(services.hub.asks, metrics=services.metrics),
            disconnect=services.disconnector.disconnect,
            on_upgraded=self.upgraded.append,
            schedule=services.schedule,
            clock=services.clock,
            volatile_skipped=services.hub.count_volatile_skipped,
            metrics=services.metrics,
            arriving=self.arriving,
        )
        self.verifier.known["alice"] = services.identity("alice", "org:7")

    def counted(self, name: str) -> dict[str, float]:
        """Return the samples of a metric that are not zero, by their label values."""
        return counted(self.services.metrics, name)

    def open(self, *, query_token: str | None = None, writer: RecordingWriter | None = None) -> SocketClient:
        """Open a session."""
        writer = writer or RecordingWriter()
        handshake = Handshake(authorization=None, query_token=query_token, address="192.0.2.1")
        session = EngineSession(
            f"engine-{id(writer)}",
            handshake=handshake,
            observer=self.server,
            send_buffer_bytes=SEND_BUFFER_BYTES,
            writer=writer,
        )
        self.server.session_opened(session)
        return SocketClient(self.server, session, writer)

    async def polling(self, *namespaces: str) -> EngineSession:
        """Open a session on polling that has joined these namespaces, has collected all packets and polls no more."""
        handshake = Handshake(authorization=None, query_token=None, address="192.0.2.1")
        session = EngineSession(
            "engine-polling", handshake=handshake, observer=self.server, send_buffer_bytes=SEND_BUFFER_BYTES
        )
        self.server.session_opened(session)
        for namespace in namespaces:
            prefix = "" if namespace == "/" else namespace + ","
            await finished(self.server.message_received(session, f'0{prefix}{{"token":"alice"}}'))
        session.collect()
        return session

    async def connected(self, token: str = "alice") -> SocketClient:
        """Return a client that has joined the main namespace, without the packets of the handshake."""
        client = self.open()
        await client.send(connect(token))
        assert client.packets[0].startswith("0{")
        client.writer.frames.clear()
        return client


def connect(token: str, namespace: str = "") -> str:
    return f"0{namespace}" + json.dumps({"token": token})


def text(frame: bytes) -> str:
    """Return the text of a ready frame."""
    body = frame[4:] if frame[1] == 126 else frame[2:]
    assert message(body.decode()[1:]).frame == frame
    return body.decode()
