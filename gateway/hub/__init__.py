"""The connections and rooms of this replica, and the local fan-out.

connection       Connection: its state, rooms, recovery session and replay watermark
delivery_timer   DeliveryTimer: times pushes from this replica until they are delivered here
registry         Hub: rooms to connections and back; delivers entries
"""

from gateway.hub.connection import ClientTransport, Connection, ConnectionState
from gateway.hub.delivery_timer import DeliveryTimer
from gateway.hub.registry import Encode, Hub, reason_of

__all__ = ["ClientTransport", "Connection", "ConnectionState", "DeliveryTimer", "Encode", "Hub", "reason_of"]
