"""Who is here, in which room, and the local fan-out.

connection   one connection: how far along it is, and what is for it
registry     rooms to connections and back; delivers
"""

from gateway.hub.connection import ClientTransport, Connection, State
from gateway.hub.registry import Encode, Hub, Meter, reason_of

__all__ = ["ClientTransport", "Connection", "Encode", "Hub", "Meter", "State", "reason_of"]
