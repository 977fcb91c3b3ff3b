"""What is overridden of python-socketio, all of it; ``tests/contract/test_socketio_overrides.py`` fails on an upgrade
that moves what is relied upon here.

python-socketio decodes packets, puts binary attachments back together and answers acknowledgements. Overridden are:

- the Engine.IO server class (``_engineio_server_class``): our transport, by way of ``EngineAdapter``;
- the client manager: ``Registry`` looks connections up where they are, so that there is one registry;
- the connect handshake and the way to leave (``_handle_connect``, ``_handle_disconnect``): decided by the door;
- what an event does (``_handle_event``): the door has one answer to each, and knows whether one is wanted;
- how packets are sent (``_send_packet``): as ready frames.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol

import socketio
from socketio import packet

from gateway.transport.packets import Frames, message

MAX_ATTACHMENTS: Final = 10
"""As in the reference parser: a packet is held until its last attachment has come."""


class AttachmentsTooLarge(Exception):
    """The attachments of one packet are too many bytes together."""


class Acknowledge(Protocol):
    """Sends the answer that the client waits for."""

    async def __call__(self, *arguments: object) -> None: ...


class ServerEvents(Protocol):
    """What the door does with packets. A session is named by its Engine.IO sid."""

    async def on_connect(self, engine_sid: str, namespace: str, auth: object) -> None: ...

    def on_disconnect(self, engine_sid: str, namespace: str) -> None: ...

    async def on_event(
        self, engine_sid: str, namespace: str, data: list[object], acknowledge: Acknowledge | None
    ) -> None: ...

    def connection_of(self, engine_sid: str, namespace: str) -> str | None: ...

    def send(self, engine_sid: str, frames: Frames) -> None: ...


class EngineAdapter:
    """Stands where python-socketio expects python-engineio's server."""

    async_mode = "aiohttp"

    def __init__(self, **_options: Any) -> None:
        """python-socketio hands on the options for an engine; ours has its own."""

    def on(self, event: str, handler: Callable[..., Awaitable[None]]) -> None:
        """python-socketio registers for connect, message and disconnect; the door calls it without this detour."""


class ClientManager:
    """Stands where python-socketio expects its client manager; delegates to the door and, by it, to the hub."""

    def __init__(self, events: ServerEvents) -> None:
        self._events = events

    def set_server(self, server: object) -> None:
        """python-socketio introduces itself; nothing here needs it."""

    def sid_from_eio_sid(self, engine_sid: str, namespace: str) -> str | None:
        return self._events.connection_of(engine_sid, namespace)

    async def trigger_callback(self, sid: str | None, ack_id: int, data: object) -> None:
        """The gateway never asks for an acknowledgement, so one that comes is not for anybody."""


class PacketServer(socketio.AsyncServer):  # type: ignore[misc]
    """python-socketio's server, with its decisions handed to the door."""

    def __init__(self, events: ServerEvents, *, namespaces: list[str], max_attachments_bytes: int) -> None:
        """``max_attachments_bytes`` bounds what is held of a packet whose attachments did not all come yet."""
        self._events = events
        self._max_attachments_bytes = max_attachments_bytes
        super().__init__(
            client_manager=ClientManager(events),
            # A logger of one's own: for a boolean python-socketio adds a handler that writes past our log.
            logger=logging.getLogger("socketio.server"),
            async_handlers=False,
            # python-socketio's own makes a decoder for every packet, to bound integers that Python bounds by now.
            json=json,
            namespaces=namespaces,
        )

    async def message_received(self, engine_sid: str, data: str | bytes) -> None:
        """Decode one message and act on it. Raises AttachmentsTooLarge, or whatever a malformed one provokes in the
        decoder.
        """
        begun = self._binary_packet.get(engine_sid)
        if begun is not None:
            if isinstance(data, str):
                raise ValueError("text where an attachment was due")
            if sum(map(len, begun.attachments)) + len(data) > self._max_attachments_bytes:
                raise AttachmentsTooLarge
        await self._handle_eio_message(engine_sid, data)
        incomplete = self._binary_packet.get(engine_sid)
        if incomplete is not None and incomplete.attachment_count > MAX_ATTACHMENTS:
            raise ValueError("a packet with too many attachments")

    def forget(self, engine_sid: str) -> None:
        """The session is gone; so is the half-received packet that it may have left."""
        self._binary_packet.pop(engine_sid, None)

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
        name = namespace or "/"
        acknowledge = None if ack_id is None else partial(self._acknowledge, eio_sid, name, ack_id)
        await self._events.on_event(eio_sid, name, data, acknowledge)

    async def _acknowledge(self, eio_sid: str, namespace: str, ack_id: int, *arguments: object) -> None:
        await self._send_packet(
            eio_sid, self.packet_class(packet.ACK, namespace=namespace, id=ack_id, data=list(arguments))
        )

    async def _send_packet(self, eio_sid: str, pkt: Any) -> None:
        encoded = pkt.encode()
        for part in encoded if isinstance(encoded, list) else [encoded]:
            self._events.send(eio_sid, Frames(part) if isinstance(part, bytes) else message(part))
