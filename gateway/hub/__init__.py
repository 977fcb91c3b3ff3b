"""The connections and rooms of this replica, and the local fan-out.

connection       Connection: its state, rooms, recovery session and replay watermark
registry         Hub: rooms to connections and back; delivers entries
"""

from gateway.hub.connection import MAX_DATA_BYTES, ClientTransport, Connection, ConnectionState
from gateway.hub.registry import Encode, Hub, reason_of

__all__ = ["MAX_DATA_BYTES", "ClientTransport", "Connection", "ConnectionState", "Encode", "Hub", "reason_of"]
