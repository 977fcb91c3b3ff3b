"""The Socket.IO door over the memory state, with clients that are a recording wire each."""

from __future__ import annotations

import asyncio
import json

from gateway.domain.errors import TokenRejected
from gateway.domain.identity import Identity
from gateway.hub import Connection
from gateway.socketio_server.connect_handshake import ConnectHandshake
from gateway.socketio_server.server import SocketIOOptions, SocketIOServer
from gateway.socketio_server.token_refresh import TokenRefresh
from gateway.transport.packets import message
from gateway.transport.session import EngineSession, Handshake
from tests.support.metrics import counted
from tests.unit.services.harness import Services
from tests.unit.transport.recording import RecordingWire

CONNECT_TIMEOUT_SECONDS = 45.0
SEND_BUFFER_BYTES = 10_000
MAX_ATTACHMENTS_BYTES = 1_000


class Verifier:
    """Takes the tokens that a test wrote down. It lies about cryptography and nothing else."""

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
            raise TokenRejected("token_signature_invalid", "nobody signed this")
        return self.known[token]


class Visitor:
    """One client on a WebSocket."""

    def __init__(self, door: SocketIOServer, session: EngineSession, writer: RecordingWire) -> None:
        self._door = door
        self.session = session
        self.writer = writer

    async def say(self, *packets: str | bytes) -> None:
        """Send Socket.IO packets."""
        for packet in packets:
            await self._door.message_received(self.session, packet)

    @property
    def heard(self) -> list[str]:
        """The Socket.IO packets that were sent to it."""
        return [text(frame)[1:] for frame in self.writer.frames]

    def events(self) -> list[list[object]]:
        """The events of the main namespace that were sent to it."""
        return [json.loads(packet[1:]) for packet in self.heard if packet.startswith("2[")]


class Doorway:
    """A door and the house behind it."""

    def __init__(self, *, messages_per_second: float | None = None) -> None:
        self.house = Services()
        self.verifier = Verifier()
        self.upgraded: list[Connection] = []
        house = self.house
        self.door = SocketIOServer(
            SocketIOOptions(
                namespaces=("/", "/events"),
                transports=("polling", "websocket"),
                connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS,
                messages_per_second=messages_per_second,
                max_attachments_bytes=MAX_ATTACHMENTS_BYTES,
            ),
            handshake=ConnectHandshake(
                verifier=self.verifier,
                connector=house.connector,
                replayer=house.replayer,
                token_expiry=house.token_expiry,
                disconnect=house.disconnector.disconnect,
                metrics=house.metrics,
            ),
            token_refresh=TokenRefresh(
                verifier=self.verifier,
                connector=house.connector,
                token_expiry=house.token_expiry,
                metrics=house.metrics,
            ),
            disconnect=house.disconnector.disconnect,
            on_upgraded=self.upgraded.append,
            schedule=house.schedule,
            clock=house.clock,
            volatile_skipped=house.hub.count_volatile_skipped,
            metrics=house.metrics,
        )
        self.verifier.known["alice"] = house.identity("alice", "org:7")

    def counted(self, name: str) -> dict[str, float]:
        """The samples of a metric that are not zero, by their label values."""
        return counted(self.house.metrics, name)

    def open(self, *, query_token: str | None = None, writer: RecordingWire | None = None) -> Visitor:
        """A transport that was just opened."""
        writer = writer or RecordingWire()
        handshake = Handshake(authorization=None, query_token=query_token, address="192.0.2.1")
        session = EngineSession(
            f"engine-{id(writer)}",
            handshake=handshake,
            observer=self.door,
            send_buffer_bytes=SEND_BUFFER_BYTES,
            writer=writer,
        )
        self.door.session_opened(session)
        return Visitor(self.door, session, writer)

    async def polling(self, *namespaces: str) -> EngineSession:
        """A client on polling that joined these namespaces, has collected what it was told and polls no more."""
        handshake = Handshake(authorization=None, query_token=None, address="192.0.2.1")
        session = EngineSession(
            "engine-polling", handshake=handshake, observer=self.door, send_buffer_bytes=SEND_BUFFER_BYTES
        )
        self.door.session_opened(session)
        for namespace in namespaces:
            prefix = "" if namespace == "/" else namespace + ","
            await self.door.message_received(session, f'0{prefix}{{"token":"alice"}}')
        session.collect()
        return session

    async def welcomed(self, token: str = "alice") -> Visitor:
        """A client that is in the main namespace; what it heard on the way is forgotten."""
        visitor = self.open()
        await visitor.say(connect(token))
        assert visitor.heard[0].startswith("0{")
        visitor.writer.frames.clear()
        return visitor


def connect(token: str, namespace: str = "") -> str:
    return f"0{namespace}" + json.dumps({"token": token})


def text(frame: bytes) -> str:
    """The text in a ready frame."""
    body = frame[4:] if frame[1] == 126 else frame[2:]
    assert message(body.decode()[1:]).frame == frame
    return body.decode()
