"""The Socket.IO door over the memory state, with clients that are a recording wire each."""

from __future__ import annotations

import asyncio
import json

from gateway.domain.errors import TokenRefused
from gateway.domain.identity import Identity
from gateway.hub import Connection
from gateway.socketio_door.door import Door, DoorOptions
from gateway.socketio_door.refresh import Refreshing
from gateway.socketio_door.welcome import Welcome
from gateway.transport.handshake import Handshake
from gateway.transport.packets import message
from gateway.transport.session import Session
from tests.unit.services.house import House
from tests.unit.transport.recording import RecordingWire

CONNECT_TIMEOUT_SECONDS = 45.0
OUTBOX_BYTES = 10_000
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
            raise TokenRefused("token_signature_invalid", "nobody signed this")
        return self.known[token]


class Meter:
    """Keeps what was counted."""

    def __init__(self) -> None:
        self.counted: list[tuple[str, ...]] = []
        self.received: list[str] = []

    def connection_opened(self, namespace: str, transport: str) -> None:
        self.counted.append(("opened", namespace, transport))

    def connection_closed(self, namespace: str, reason: str) -> None:
        self.counted.append(("closed", namespace, reason))

    def connection_refused(self, code: str) -> None:
        self.counted.append(("refused", code))

    def volatile_skipped(self, reason: str) -> None:
        self.counted.append(("skipped", reason))

    def message_received(self, kind: str) -> None:
        self.received.append(kind)


class Visitor:
    """One client on a WebSocket."""

    def __init__(self, door: Door, session: Session, wire: RecordingWire) -> None:
        self._door = door
        self.session = session
        self.wire = wire

    async def say(self, *packets: str | bytes) -> None:
        """Send Socket.IO packets."""
        for packet in packets:
            await self._door.message_received(self.session, packet)

    @property
    def heard(self) -> list[str]:
        """The Socket.IO packets that were sent to it."""
        return [text(frame)[1:] for frame in self.wire.frames]

    def events(self) -> list[list[object]]:
        """The events of the main namespace that were sent to it."""
        return [json.loads(packet[1:]) for packet in self.heard if packet.startswith("2[")]


class Doorway:
    """A door and the house behind it."""

    def __init__(self, *, messages_per_second: float | None = None) -> None:
        self.house = House()
        self.verifier = Verifier()
        self.meter = Meter()
        self.upgraded: list[Connection] = []
        self.recoveries: list[str] = []
        self.refreshes: list[str] = []
        house = self.house
        self.door = Door(
            DoorOptions(
                namespaces=("/", "/events"),
                connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS,
                messages_per_second=messages_per_second,
                max_attachments_bytes=MAX_ATTACHMENTS_BYTES,
            ),
            welcome=lambda put_out: Welcome(
                verifier=self.verifier,
                arriving=house.arriving,
                catching_up=house.catching_up,
                expiring=house.expiring,
                depart=house.reporting.depart,
                recovery_told=self.recoveries.append,
                put_out=put_out,
            ),
            refreshing=Refreshing(
                verifier=self.verifier,
                arriving=house.arriving,
                expiring=house.expiring,
                refreshed=self.refreshes.append,
            ),
            depart=house.reporting.depart,
            upgraded=self.upgraded.append,
            schedule=house.schedule,
            clock=house.clock,
            meter=self.meter,
        )
        self.verifier.known["alice"] = house.who("alice", "org:7")

    def open(self, *, query_token: str | None = None, wire: RecordingWire | None = None) -> Visitor:
        """A transport that was just opened."""
        wire = wire or RecordingWire()
        handshake = Handshake(authorization=None, query_token=query_token, address="192.0.2.1")
        session = Session(
            f"engine-{id(wire)}", handshake=handshake, above=self.door, outbox_bytes=OUTBOX_BYTES, wire=wire
        )
        self.door.session_opened(session)
        return Visitor(self.door, session, wire)

    async def polling(self, *namespaces: str) -> Session:
        """A client on polling that joined these namespaces, has collected what it was told and polls no more."""
        handshake = Handshake(authorization=None, query_token=None, address="192.0.2.1")
        session = Session("engine-polling", handshake=handshake, above=self.door, outbox_bytes=OUTBOX_BYTES)
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
        visitor.wire.frames.clear()
        return visitor


def connect(token: str, namespace: str = "") -> str:
    return f"0{namespace}" + json.dumps({"token": token})


def text(frame: bytes) -> str:
    """The text in a ready frame."""
    body = frame[4:] if frame[1] == 126 else frame[2:]
    assert message(body.decode()[1:]).frame == frame
    return body.decode()
