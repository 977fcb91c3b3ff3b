"""The interfaces of the state: the broker and the stores.

``state.memory`` is the specification of the state, and the suite in ``tests/contract`` runs against both states.
Every ``async`` method of a store may raise BrokerUnavailable (the state was not changed) or BrokerTimeout (unknown
whether it was), unless its docstring says otherwise. Times are seconds since 1970.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from gateway.domain.dedup import DedupKey
from gateway.domain.identity import Revocation
from gateway.domain.messages import Address, LogEntry, Message, PublishResult
from gateway.domain.notifications import Notification
from gateway.domain.positions import Position
from gateway.domain.presence import ClosedConnection, PresentConnection, UserPresence
from gateway.domain.sessions import RecoverySession, ResumedSession, VisibleRooms
from gateway.domain.status import StateStatus
from gateway.interfaces.connection_rooms import ConnectionRooms, Connects
from gateway.interfaces.delivery import Deliver, DeliverNow, Flush, never_now, no_flush
from gateway.interfaces.guards import AckStore, RateLimits
from gateway.interfaces.listings import DataSource, Listings, SocketDataStore
from gateway.interfaces.logged_messages import LoggedMessages, Page
from gateway.interfaces.offline_queue import OfflineQueue
from gateway.interfaces.queues import Partitions, PresenceEvents, UserLists, WebhookQueues
from gateway.interfaces.replies import Replies


class Broker(Protocol):
    """Carries entries between replicas and keeps their recent history.

    Contract:

    - ``append`` is atomic: dedup key, position, history, publication and count happen together or not at all.
    - Positions rise strictly in the order of acceptance, also when the clock goes back. A volatile message is not kept
      in the history: it has no position of its own and repeats the newest one.
    - Appending an id again, while the history is kept, changes nothing and returns the first result, whatever the dedup
      key: so an append whose answer was lost can be repeated.
    - Every entry for a subscribed address that is accepted after ``subscribe`` returned is passed to the callback of
      ``listen``, in the order of positions, one at a time, each once.
    - A replica receives its own entries only in this way.
    """

    async def append(
        self, entry: LogEntry, dedup_key: DedupKey | None = None, *, with_counts: bool = False
    ) -> PublishResult:
        """Accept an entry and return when the broker has it; never wait for a client.

        When too many entries wait for the listener, wait for space for a limited time before anything else is done. An
        idempotency key that was used before with the same fingerprint returns the first result with ``replayed`` true
        and consumes the new nonce. So does a retransmission of an accepted request that had an idempotency key.
        ``with_counts``: the result has the connections at each address, too, also for a repeat.

        Raises: NonceReplayed or IdempotencyConflict when the dedup key is rejected; nothing happened then.
        """
        ...

    def append_now(
        self, message: Message, dedup_key: DedupKey
    ) -> PublishResult | asyncio.Future[PublishResult] | None:
        """Accept a plain message as ``append`` does, without waiting for anything but a shared state.

        A plain message has one address, and neither ``exclude``, ``volatile``, ``trace``, ``all_of``, ``reply_to``,
        attachments nor a ttl. ``dedup_key`` has no idempotency key.

        Return the result, or a future that gets it or an error of ``append``. None means that nothing was done:
        ``append`` accepts the message, or raises why it is rejected.
        """
        ...

    async def append_all(
        self,
        messages: Sequence[Message],
        dedup_key: DedupKey | None = None,
        *,
        notifications: Sequence[Notification] = (),
    ) -> tuple[PublishResult, ...]:
        """Accept several messages, in this order and all or none, as ``append`` does with one.

        ``notifications`` are put into the queues of their webhooks in the same step. Their ids are known as those of
        messages are: one that was accepted before is not queued again. The results are those of the messages.

        One request to a shared state. Appending them again returns the first results. Those of a repeated idempotency
        key are those of its first request, whatever ``messages`` are now.

        Raises: ValueError for more than MAX_BATCH messages and notifications, or two with one id; QueueFull if a queue
            holds MAX_QUEUED notifications or MAX_QUEUED_BYTES, and nothing was accepted then; what ``append`` raises.
        """
        ...

    async def subscribe(self, addresses: Collection[Address]) -> Position:
        """Subscribe; return the newest position: the listener gets every later entry for the addresses. Idempotent.

        Before the first entry it is the position at which this stream begins, which no other stream has. It is
        never ``positions.START``, which is before all of them.
        """
        ...

    async def unsubscribe(self, addresses: Collection[Address]) -> None:
        """End the subscription to the addresses. Idempotent; entries that are under way may still be delivered."""
        ...

    async def listen(
        self, deliver: Deliver, flush: Flush = no_flush, deliver_now: DeliverNow = never_now, /
    ) -> None:
        """Pass entries to ``deliver`` until cancelled. Called once.

        A state of one process may pass a message to ``deliver_now`` while it is appended, if no other waits.

        After an entry with ``more``, the next entry is delivered or ``flush`` is called before anything is waited for.

        Raises: what ``deliver`` raises; that ends it.
        """
        ...

    async def history(
        self, after: Position, addresses: Collection[Address], *, max_entries: int, max_bytes: int
    ) -> Page:
        """Return the entries after a position for any of the addresses, each once; at least one if there is any.

        ``max_bytes`` limits the JSON of the arguments.

        Raises: MalformedPosition.
        """
        ...


class Presence(Protocol):
    """The connections of all replicas, as one replica reads and writes them.

    Contract: each sid is registered at most once; a replica registers only its own connections.
    """

    async def register(
        self,
        connection: PresentConnection,
        rooms: Collection[str],
        *,
        session: RecoverySession | None = None,
        max_of_user: int | None = None,
        listed: str | None = None,
        data: DataSource | None = None,
    ) -> None:
        """Count a connection in its namespace, its rooms and the room of its sid, which ``rooms`` need not name.

        Registering a sid again replaces what was registered. ``session`` is its recovery session. ``listed`` is its
        entry in the list of its namespace (UserLists), None if it is not listed. Its list counts as changed then.
        ``data`` has its socket data, which is written again if a shared state has lost it.

        Raises: ValueError for a connection of another replica; TooManyConnections if ``max_of_user`` connections of the
            user are registered, on all replicas, without this sid.
        """
        ...

    async def register_again(self, listed: Mapping[str, str | None]) -> None:
        """Register connections of this replica again, with these entries in the list of their namespace, by sid.

        So lists, and changes of presence that are recorded since they were registered, include them. A sid that is not
        registered changes nothing. A shared state does nothing else meanwhile: limit the connections.
        """
        ...

    async def change_rooms(
        self, sid: str, rooms: Collection[str], *, session: RecoverySession | None = None
    ) -> None:
        """Replace the rooms of a connection. An unknown sid changes nothing."""
        ...

    async def has_sid(self, sid: str) -> bool:
        """Whether a connection with this sid is registered or recoverable, on any replica."""
        ...

    async def visible_rooms(self, user: str, namespace: str) -> VisibleRooms:
        """Return what is visible to the user's connections in a namespace that are registered or recoverable.

        Each room has its earliest position. A user with very many connections may get the rooms of some only.
        """
        ...

    async def change_transport(self, sid: str, transport: str) -> None:
        """Replace the transport of a connection, after an upgrade. An unknown sid changes nothing."""
        ...

    async def unregister(self, sid: str, *, is_parked: bool = False) -> None:
        """Remove a connection; after the user's last one ``last_seen`` is now. An unknown sid changes nothing.

        ``is_parked``: until it is registered again, and for RECOVERY_SECONDS at most, it counts as recoverable."""
        ...

    async def of_user(self, user: str) -> UserPresence:
        """Return the user's connections in every namespace and on every replica, in one read."""
        ...

    async def of_users(self, users: Collection[str]) -> dict[str, UserPresence]:
        """Return the same for each of the users, known or not, in one read: a consistent snapshot of all of them.

        Users with more than a thousand connections together are read in parts, so that nothing else waits for long.
        """
        ...


class Sessions(Protocol):
    """Recovery sessions.

    Contract: a session has one owner, a connect attempt (``RecoverySession.owner``). Writes of a former owner change
    nothing, however late they arrive.
    """

    async def save(self, session: RecoverySession) -> None:
        """Write a new session. A known pid stays as it is."""
        ...

    async def change(self, session: RecoverySession) -> None:
        """Replace a session, unless it was parked or deleted or has another owner: a late write revives nothing."""
        ...

    async def resume(self, pid: str, *, user: str, namespace: str, owner: str) -> ResumedSession:
        """Make ``owner`` the owner and return the session as it was.

        Raises: RecoveryFailed, and changes nothing: ``unknown_session`` (also for a session of another namespace),
            ``other_user``, or ``session_expired``, which is known for as long again as the session was kept.
        """
        ...

    async def park(self, pid: str, *, owner: str) -> None:
        """Keep the session of a lost connection: it expires RECOVERY_SECONDS from now unless it is resumed."""
        ...

    async def delete(self, pid: str, *, owner: str) -> None:
        """Delete the session of a connection that cannot be resumed."""
        ...


class Disconnects(Protocol):
    """Connections that are gone, of presence and of the recovery sessions together."""

    async def record(self, disconnects: Sequence[ClosedConnection]) -> None:
        """Unregister the connections, and park or delete their sessions: one request to a shared state.

        Idempotent. A sid that is registered again after the call stays registered. What a failed call did not do is
        done once the state is available again. A shared state does nothing else meanwhile: limit the connections.
        """
        ...


class DedupStore(Protocol):
    """Nonces of requests that append nothing, each accepted once; ``Broker.append`` uses the same store.

    Contract: a request is accepted once, whatever is lost and whichever clock is set. The store rejects a request that
    it cannot vouch for with FreshnessUnknown (``domain.dedup.NonceEpoch``).
    """

    @property
    def began_at(self) -> float:
        """The time since which every nonce is kept: a whole second, because requests carry no fractions."""
        ...

    def now(self) -> float:
        """Return the time that timestamps are compared with, in seconds since 1970. All replicas share it."""
        ...

    async def consume_nonce(self, dedup_key: DedupKey) -> None:
        """Use up the nonce of a dedup key. Only a retransmission with an idempotency key is accepted again.

        Raises: NonceReplayed; FreshnessUnknown, also after ``nonce_expires_at``: a nonce that old is not kept.
        """
        ...


class Revocations(Protocol):
    """Users whose older tokens are rejected, and tokens that are rejected by their id.

    Appending a DisconnectCommand with ``revoke`` writes them: the token that it names, else its user. A token revoked
    again is kept until the later of the two ends. None is removed early: with too many, further ones are rejected.
    """

    async def read(self, user: str, token_id: str = "") -> Revocation:
        """Return what is revoked of a user and of a token, in one read; without a token id of the user alone."""
        ...


class State(Protocol):
    """The state as one replica uses it: the stores above, built together, started and closed together.

    Contract:

    - ``run`` is called once. The stores work from the moment at which it sets its event until it ends.
    - ``close`` is called while ``run`` still works, once no client is connected and none can connect.
    - The properties and ``sizes`` never wait and never raise; they may be read before ``run`` and after ``close``.
    """

    @property
    def broker(self) -> Broker: ...

    @property
    def logged_messages(self) -> LoggedMessages: ...

    @property
    def presence(self) -> Presence: ...

    @property
    def sessions(self) -> Sessions: ...

    @property
    def connects(self) -> Connects: ...

    @property
    def disconnects(self) -> Disconnects: ...

    @property
    def dedup(self) -> DedupStore: ...

    @property
    def rates(self) -> RateLimits: ...

    @property
    def revocations(self) -> Revocations: ...

    @property
    def acks(self) -> AckStore: ...

    @property
    def partitions(self) -> Partitions: ...

    @property
    def webhook_queues(self) -> WebhookQueues: ...

    @property
    def presence_events(self) -> PresenceEvents: ...

    @property
    def user_lists(self) -> UserLists: ...

    @property
    def replies(self) -> Replies: ...

    @property
    def connection_rooms(self) -> ConnectionRooms: ...

    @property
    def listings(self) -> Listings: ...

    @property
    def socket_data(self) -> SocketDataStore: ...

    @property
    def offline_queue(self) -> OfflineQueue: ...

    @property
    def status(self) -> StateStatus:
        """What this replica can do now, as far as the state goes."""
        ...

    @property
    def rejection(self) -> str:
        """What the state rejects although it answers, as a sentence; empty when it rejects nothing."""
        ...

    def join_wait_seconds(self, room: str) -> float:
        """Return for how long clients may not join a room still, 0 if they may. Never waits, never raises.

        A replica of a former release keeps no joined rooms, so none is joined while one may live. It makes sids in
        FORMER_SID_FORM (``domain.names``), so no room of that form is joined while such a sid may live or is parked.
        """
        ...

    async def run(self, started: asyncio.Event) -> None:
        """Work until cancelled; set ``started`` once the stores can be used.

        Raises: StateMisconfigured, when the state cannot be used as it is configured.
        """
        ...

    async def close(self) -> None:
        """Leave the other replicas. Takes a bounded time and raises nothing."""
        ...

    def sizes(self) -> Mapping[str, float]:
        """How much of everything that has a limit is held now, under stable names, for the metrics."""
        ...
