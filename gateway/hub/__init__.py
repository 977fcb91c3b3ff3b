"""Who is here, in which room, and the local fan-out.

connection   one connection: how far along it is, and what is for it
registry     rooms to connections and back; delivers
"""

from gateway.hub.connection import ClientTransport, Connection, ConnectionState
from gateway.hub.delivery_timer import DeliveryTimer
from gateway.hub.registry import Encode, Hub, reason_of

__all__ = ["ClientTransport", "Connection", "ConnectionState", "DeliveryTimer", "Encode", "Hub", "reason_of"]
