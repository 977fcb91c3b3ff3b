"""Acknowledgements that clients send because a backend asked for them."""

from __future__ import annotations

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

    def acknowledge(self, connection: Connection, ack_id: int, arguments: str, number: int) -> None: ...

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
        """Return whether a message is an acknowledgement that was asked of this client, and count it if so.

        One that is not strict JSON is dropped: the connection counts as silent.
        """
        address = packets.ack_address(data) if isinstance(data, str) else None
        connection = None if address is None else client.connections.get(address[0])
        if address is None or connection is None or not self._asked.is_asked(connection, address[1]):
            return False
        packet = packets.decode_ack(str(data))
        if packet is None:
            self._asked.reject(connection, address[1])
            self._received.count((MALFORMED,))
        else:
            self._received.count((RECEIVED,))
            self._asked.acknowledge(connection, packet.ack_id, packet.arguments, packet.number)
        return True
