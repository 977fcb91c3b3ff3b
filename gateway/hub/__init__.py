"""Who is here, in which room, and the local fan-out.

connection   one connection: how far along it is, and what is for it
registry     rooms to connections and back; delivers
"""

from gateway.hub.connection import Connection, Link, State
from gateway.hub.registry import Encode, Hub, Meter, ending_of

__all__ = ["Connection", "Encode", "Hub", "Link", "Meter", "State", "ending_of"]
