"""Acknowledgements that clients send because a backend asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from gateway.hub import Connection
from gateway.metrics import MetricFactory, one_label
from gateway.socketio_server import packets
from gateway.socketio_server.client import Client

RECEIVED, MALFORMED = "received", "malformed"
OUTCOMES: Final = (RECEIVED, MALFORMED)


class Asked(Protocol):
    """The open asks of this replica (``hub.Asks``)."""

    def is_asked(self, connection: Connection, ack_id: int) -> bool: ...

    def acknowledge(
        self, connection: Connection, ack_id: int, arguments: str, number: int, binary: tuple[str, ...]
    ) -> None: ...

    def reject(self, connection: Connection, ack_id: int) -> None: ...


class ClientAcks:
    """Takes the acknowledgements that a connection was asked for; all others are left to python-socketio.

    They do not count towards the rate of messages: a client sends as many of them as backends ask for.
    """

    def __init__(self, asked: Asked, *, metrics: MetricFactory) -> None:
        self._asked = asked
        self._received = metrics.counter(
            "client_acks",
            "Acknowledgements of clients that backends asked for, by outcome.",
            ("outcome",),
            one_label(OUTCOMES),
        )

    def take(self, client: Client, data: str | bytes) -> bool:
        """Return whether a message is a whole acknowledgement that was asked of this client, and count it if so.

        One that is not strict JSON is dropped: the connection counts as silent.
        """
        if not isinstance(data, str) or (address := packets.ack_address(data)) is None or address.attachments:
            return False
        connection = self._asked_of(client, address)
        if connection is not None:
            self._count(connection, address.ack_id, packets.decode_ack(data))
        return connection is not None

    def is_asked(self, client: Client, text: str) -> bool:
        """Whether a packet has an acknowledgement that was asked of this client; its attachments may follow."""
        address = packets.ack_address(text)
        return address is not None and self._asked_of(client, address) is not None

    def take_binary(self, client: Client, text: str, attachments: Sequence[bytes]) -> None:
        """Count an acknowledgement whose attachments have arrived, if it was asked of this client.

        One that is not strict JSON, or has an attachment in two places, is dropped: the connection counts as silent.
        """
        address = packets.ack_address(text)
        connection = None if address is None else self._asked_of(client, address)
        if address is not None and connection is not None:
            self._count(connection, address.ack_id, packets.decode_ack(text, attachments))

    def _asked_of(self, client: Client, address: packets.AckAddress) -> Connection | None:
        """Return the connection that was asked for an acknowledgement; None if it was not, or has answered."""
        connection = client.connections.get(address.namespace)
        return (
            connection
            if connection is not None and self._asked.is_asked(connection, address.ack_id)
            else None
        )

    def _count(self, connection: Connection, ack_id: int, packet: packets.AckPacket | None) -> None:
        if packet is None:
            self._asked.reject(connection, ack_id)
            self._received.count((MALFORMED,))
        else:
            self._received.count((RECEIVED,))
            self._asked.acknowledge(connection, ack_id, packet.arguments, packet.number, packet.binary)
