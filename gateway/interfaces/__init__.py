"""The interfaces between the packages, each with its contract.

state     the broker and the stores of the state
waiting   sleep: waits by the schedule of the process
backends  what backends decide: tokens and webhooks
queues    notifications of backends, changes of presence, lists of users, and which replica works on them
guards    rates, and acknowledgements that are kept
replies   what replicas answer to an entry
listings  lists of users, rooms and connections; the socket data of connections
logged_messages  pages of the history, and the messages that it holds: read the newest, erase them
connection_rooms  new connections, and the rooms of connections, in presence and recovery sessions
offline_queue  messages that are kept for users until they are received
delivery  encoded messages and the sockets that take them
"""

from __future__ import annotations

from gateway.domain.clocks import Clock, Schedule, Timer
from gateway.interfaces.backends import TokenVerifier, Webhooks
from gateway.interfaces.connection_rooms import ConnectionRooms, Connects
from gateway.interfaces.delivery import (
    Deliver,
    DeliverNow,
    DeliveryObserver,
    Flush,
    Frames,
    Socket,
    never_now,
    no_flush,
)
from gateway.interfaces.guards import AckStore, RateLimits
from gateway.interfaces.listings import DataSource, Listings, SocketDataStore
from gateway.interfaces.logged_messages import LoggedMessages, Page
from gateway.interfaces.offline_queue import OfflineQueue
from gateway.interfaces.queues import Partitions, PresenceEvents, UserLists, WebhookQueues
from gateway.interfaces.replies import Replies
from gateway.interfaces.state import (
    Broker,
    DedupStore,
    Disconnects,
    Presence,
    Revocations,
    Sessions,
    State,
)
from gateway.interfaces.waiting import sleep

__all__ = [
    "AckStore",
    "Broker",
    "Clock",
    "ConnectionRooms",
    "Connects",
    "DataSource",
    "DedupStore",
    "Deliver",
    "DeliverNow",
    "DeliveryObserver",
    "Disconnects",
    "Flush",
    "Frames",
    "Listings",
    "LoggedMessages",
    "OfflineQueue",
    "Page",
    "Partitions",
    "Presence",
    "PresenceEvents",
    "RateLimits",
    "Replies",
    "Revocations",
    "Schedule",
    "Sessions",
    "Socket",
    "SocketDataStore",
    "State",
    "Timer",
    "TokenVerifier",
    "UserLists",
    "WebhookQueues",
    "Webhooks",
    "never_now",
    "no_flush",
    "sleep",
]
