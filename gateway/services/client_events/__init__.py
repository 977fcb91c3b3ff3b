"""Events of clients: what the event catalogue makes of them (docs/explanation/architecture.md, "Client events").

answers   what the answer of a webhook asks for, checked against what it may do
buffers   binary arguments, and how messages hold them
effects   Effects: calls webhooks, changes rooms, appends messages, queues notifications
handler   ClientEvents: the steps of an event
queue     EventQueue: the order of the events of one connection, and how many may wait
repeats   Repeats: of equal events with a dedupe value one takes effect
replies   Replies: what the client gets for its event
requests  what a webhook gets of an event
rules     what an event may do, and whom its messages are for
"""

from gateway.services.client_events.effects import Effects
from gateway.services.client_events.handler import ClientEvents
from gateway.services.client_events.queue import Acknowledge
from gateway.services.client_events.replies import UNKNOWN_EVENT

__all__ = ["UNKNOWN_EVENT", "Acknowledge", "ClientEvents", "Effects"]
