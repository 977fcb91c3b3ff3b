"""The connections and rooms of this replica, and the local fan-out.

asks             Asks: the acknowledgements that connections were asked for
connection       Connection: its state, rooms, recovery session and replay watermark
disconnects      TokenIndex: which connections disconnect commands end, and how
fan_out          FanOut: writes frames to many sockets, gathered over messages that follow each other
receipts         Receipts: which messages with a ttl clients have received
recipients       find_recipients, without_repeats: the connections of this replica that an entry is for
registry         Hub: rooms to connections and back; delivers entries
"""

from gateway.hub.asks import Asks, Encode
from gateway.hub.connection import ClientTransport, Connection, ConnectionState
from gateway.hub.disconnects import reason_of
from gateway.hub.fan_out import GATHER_BYTES, GatheredFrames
from gateway.hub.receipts import Receipts
from gateway.hub.registry import Hub

__all__ = [
    "GATHER_BYTES",
    "Asks",
    "ClientTransport",
    "Connection",
    "ConnectionState",
    "Encode",
    "GatheredFrames",
    "Hub",
    "Receipts",
    "reason_of",
]
