"""Events of clients: what the event catalogue makes of them (docs/explanation/architecture.md, "Client events").

answers   what the answer of a webhook asks for, checked against what it may do
effects   Effects: calls webhooks, changes rooms, appends messages
handler   ClientEvents: the way of an event through the steps, and what its client gets
queue     EventQueue: the order of the events of one connection, and how many may wait
rules     what an event may do, and whom its messages are for
"""

from gateway.services.client_events.effects import Effects
from gateway.services.client_events.handler import UNKNOWN_EVENT, ClientEvents
from gateway.services.client_events.queue import Acknowledge

__all__ = ["UNKNOWN_EVENT", "Acknowledge", "ClientEvents", "Effects"]
