"""Everything that is overridden of python-socketio.

``tests/contract/test_socketio_overrides.py`` fails on an upgrade that changes what this module relies on.

python-socketio decodes packets, except for events without attachments (``packets.decode_event``), and puts attachments
into the place of their placeholders. ``UnfinishedPackets`` collects them: python-socketio keeps a binary packet without
attachments, or whose attachments do not come, for ever. Overridden are:

- the Engine.IO server class (``_engineio_server_class``): ``EngineAdapter`` stands for our transport;
- the client manager: ``ClientManager`` looks connections up in the server, so that there is one registry;
- connect and disconnect (``_handle_connect``, ``_handle_disconnect``): the server decides;
- events (``_handle_event``): the server answers each, and knows whether an acknowledgement is requested;
- sending (``_send_packet``): as ready frames.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import socketio
from socketio.packet import ACK, BINARY_ACK, BINARY_EVENT

from gateway import interfaces
from gateway.domain.bounded_body import ArrivingBodies
from gateway.interfaces import Schedule
from gateway.socketio_server import packets
from gateway.socketio_server.unfinished_packets import AttachmentLimits, UnfinishedPackets
from gateway.transport.packets import Frames, FrameSequence, message
from gateway.transport.session import Handling

_BINARY: Final = (str(BINARY_EVENT), str(BINARY_ACK))


class ParserMismatch(Exception):
    """The first message is binary MessagePack: the client has another parser (``socket.io-msgpack-parser``)."""


class Acknowledge(Protocol):
    """Sends the acknowledgement that the client requested. It never waits."""

    def __call__(self, *arguments: object) -> None: ...


class ServerEvents(Protocol):
    """What the server does with packets. A session is named by its Engine.IO sid."""

    async def on_connect(self, engine_sid: str, namespace: str, auth: object) -> None: ...

    def on_disconnect(self, engine_sid: str, namespace: str) -> None: ...

    def on_event(
        self,
        engine_sid: str,
        namespace: str,
        data: list[object],
        acknowledge: Acknowledge | None,
        *,
        are_plain: bool,
    ) -> Handling:
        """``are_plain``: the arguments pass ``rules.check_values``."""
        ...

    def is_asked(self, engine_sid: str, text: str) -> bool:
        """Whether a text is a packet with an acknowledgement that a backend asked for."""
        ...

    def on_binary_ack(self, engine_sid: str, text: str, attachments: Sequence[bytes]) -> None:
        """Take an acknowledgement whose attachments have arrived."""
        ...

    def on_failure(self, engine_sid: str, error: Exception) -> None:
        """End a session whose binary packet is overdue or takes memory that others need."""
        ...

    def connection_of(self, engine_sid: str, namespace: str) -> str | None: ...

    def send(self, engine_sid: str, frames: interfaces.Frames) -> None: ...


class EngineAdapter:
    """Takes the place of python-engineio's server in python-socketio."""

    async_mode = "aiohttp"

    def __init__(self, **_options: Any) -> None:
        """Ignore the options that python-socketio passes to its engine: ours has its own."""

    def on(self, event: str, handler: Callable[..., Awaitable[None]]) -> None:
        """Ignore the handlers of connect, message and disconnect: the server calls ``PacketServer`` directly."""


class ClientManager:
    """Takes the place of python-socketio's client manager; delegates to the server."""

    def __init__(self, events: ServerEvents) -> None:
        self._events = events

    def set_server(self, server: object) -> None:
        """Ignore python-socketio's server: nothing here needs it."""

    def sid_from_eio_sid(self, engine_sid: str, namespace: str) -> str | None:
        return self._events.connection_of(engine_sid, namespace)

    async def trigger_callback(self, sid: str | None, ack_id: int, data: object) -> None:
        """Ignore an acknowledgement: one that a backend asked for does not get here (``ClientAcks``)."""


class PacketServer(socketio.AsyncServer):  # type: ignore[misc]
    """python-socketio's server, which leaves its decisions to ``ServerEvents``."""

    def __init__(
        self,
        events: ServerEvents,
        *,
        namespaces: list[str],
        limits: AttachmentLimits,
        schedule: Schedule,
        arriving: ArrivingBodies,
    ) -> None:
        """``limits`` and ``arriving`` bound the binary packets whose attachments have not all arrived."""
        self._events = events
        self.unfinished = UnfinishedPackets(
            limits, schedule=schedule, arriving=arriving, fail=events.on_failure
        )
        super().__init__(
            client_manager=ClientManager(events),
            # Given a boolean instead of a logger, python-socketio adds a handler that bypasses our log.
            logger=logging.getLogger("socketio.server"),
            async_handlers=False,
            # python-socketio's own JSON makes a decoder for each packet to bound integers, which Python does by now.
            json=json,
            namespaces=namespaces,
        )

    def message_received(self, engine_sid: str, data: str | bytes) -> Handling:
        """Decode one message and handle it.

        Raises: AttachmentsTooLarge, BodyDropped, or any exception of the decoder for a malformed message; also when it
            is awaited.
        """
        if self.unfinished.get(engine_sid) is not None:
            return self._add_attachment(engine_sid, data)
        if isinstance(data, str):
            event = packets.decode_event(data)
            if event is not None:
                return self._on_event(engine_sid, *event, are_plain=True)
        return self._decode(engine_sid, data)

    async def _decode(self, engine_sid: str, data: str | bytes) -> None:
        """Let python-socketio decode a message."""
        if isinstance(data, bytes):
            # Every packet of that parser is a map, in one of its three forms.
            is_map = data[:1] and (data[0] >> 4 == 8 or data[0] in {0xDE, 0xDF})
            raise ParserMismatch if is_map else ValueError("an attachment without a packet")
        if not data.startswith(_BINARY):
            await self._handle_eio_message(engine_sid, data)
            return
        # Decoded at once, so that a malformed packet ends its session before its attachments.
        packet = self.packet_class(encoded_packet=data)
        if self._events.connection_of(engine_sid, packet.namespace or "/") is None:
            raise ValueError("a binary packet without a connection")
        if packet.attachment_count:
            is_asked = self._events.is_asked(engine_sid, data)
            self.unfinished.begin(engine_sid, data, packet.attachment_count, is_asked=is_asked)
        elif packet.packet_type == BINARY_EVENT:
            await self._handle_event(engine_sid, packet.namespace, packet.id, packet.data)

    async def _add_attachment(self, engine_sid: str, data: str | bytes) -> None:
        whole = self.unfinished.add(engine_sid, data)
        if whole is None:
            return
        if whole.text.startswith(str(BINARY_ACK)):
            self._events.on_binary_ack(engine_sid, whole.text, whole.attachments)
            return
        packet = self.packet_class(encoded_packet=whole.text)
        for attachment in whole.attachments:
            packet.add_attachment(attachment)
        await self._handle_event(engine_sid, packet.namespace, packet.id, packet.data)

    def forget(self, engine_sid: str) -> None:
        """Drop the packet of a closed session whose attachments have not all arrived."""
        self.unfinished.forget(engine_sid)

    def _engineio_server_class(self) -> type[EngineAdapter]:
        return EngineAdapter

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: object) -> None:
        await self._events.on_connect(eio_sid, namespace or "/", data)

    async def _handle_disconnect(
        self,
        eio_sid: str,
        namespace: str | None,
        reason: str | None = None,  # noqa: ARG002  # python-socketio's signature
    ) -> None:
        self._events.on_disconnect(eio_sid, namespace or "/")

    async def _handle_event(
        self, eio_sid: str, namespace: str | None, ack_id: int | None, data: object
    ) -> None:
        if not isinstance(data, list) or not data or not isinstance(data[0], str | int):
            raise ValueError("an event is an array that starts with its name")
        handling = self._on_event(eio_sid, namespace or "/", ack_id, data, are_plain=False)
        if handling is not None:
            await handling

    def _on_event(
        self, engine_sid: str, namespace: str, ack_id: int | None, data: list[object], *, are_plain: bool
    ) -> Handling:
        acknowledge = None if ack_id is None else partial(self._acknowledge, engine_sid, namespace, ack_id)
        return self._events.on_event(engine_sid, namespace, data, acknowledge, are_plain=are_plain)

    def _acknowledge(self, eio_sid: str, namespace: str, ack_id: int, *arguments: object) -> None:
        try:
            self._events.send(eio_sid, packets.ack(namespace, ack_id, arguments))
        except TypeError:  # an argument is binary
            packet = self.packet_class(ACK, namespace=namespace, id=ack_id, data=list(arguments))
            self._send_encoded(eio_sid, packet)

    async def _send_packet(self, eio_sid: str, pkt: Any) -> None:
        self._send_encoded(eio_sid, pkt)

    def _send_encoded(self, eio_sid: str, pkt: Any) -> None:
        encoded = pkt.encode()
        if isinstance(encoded, list):
            frames = [Frames(part) if isinstance(part, bytes) else message(part) for part in encoded]
            self._events.send(eio_sid, FrameSequence(frames))
        else:
            self._events.send(eio_sid, message(encoded))
