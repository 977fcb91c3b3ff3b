"""Every name in Redis: keys and channels, all under one prefix. No other module builds one.

    head         string    generation of the log, newest position, sums; since when nonces are stored
    server       string    id of the Redis server and of its data set, whose nonces are complete
    clock        string    what the clock of Redis showed at the last probe (ms)
    floors       hash      the oldest accepted timestamp of a request (s), by ingest key
    log          stream    recent entries by position: r the record, s the bytes of its arguments
    segments     list      where the log may be trimmed: position, entries, bytes and time up to there
    index:<a>    list      positions of the log that were addressed to one address
    indexed      zset      the addresses that have an index, by the time of a position in it (ms)
    index_state  string    what all indexes take (bytes), and the newest position of those that were removed early
    erased       zset      positions of messages that were erased from the log, by their time (ms)
    ids:new/old  hash      results by message id, in two generations
    large:<id>   string    a volatile message that is too large for a channel, for twenty seconds
    volatile:<w> hash      how many bytes of such messages were kept in one window of time
    nonces:<w>   set       digests of the nonces used in one window of time
    answers:<w>  hash      results by idempotency key, in windows of time
    revoked:<u>  string    since when the tokens of a user are accepted again
    revoked_users zset     these users, by when that ends (ms)
    revoked_token:<t> string nothing: a token with this id is rejected
    revoked_tokens zset    these tokens, by when that ends (ms)
    kept:<a>     list      messages kept for the user at one address, oldest first (lua/offline_queue.lua)
    kept_users   zset      the addresses of users with kept messages, by when the time of a message may end first (ms)
    kept_sizes   hash      what is kept at each of these addresses (bytes)
    kept_bytes   string    the sum of that
    rates        zset      token buckets, by when they will be full (s)
    ack:<e>      string    the acknowledgement of a client event, or who lets it take effect now
    intent:<e>   string    what a client event was about to change when it was claimed
    acks:<w>     string    how many client events were claimed in one window of time
    user_acks:<u> hash     how many client events of one user are claimed or kept, and their bytes, by window of time
    leases       zset      replicas by the end of their lease
    holders      hash      the process that holds a replica's lease, a blank, when it took it
    formats      hash      newest record format that each replica reads; 0 for one of which only sessions are left
    former_sids  string    until when a sid that does not begin with ``~`` may live
    dead         hash      replicas whose lease has expired and that are being reaped, and when it expired
    conns:<r>    hash      connections of one replica by sid, with every address where they count, and since when
    room:<a>     hash      number of connections at one address, by replica
    rooms:<n>    zset      rooms of a namespace with a connection, without those of sids
    users        zset      users with a connection
    members:<a>  zset      sids in a room whose rule lists its members
    room_users:<a> hash    how many of these sids each user has
    data:<s>     string    the socket data of a connection: its version, a blank, and a JSON text
    versions     hash      version of the release of each replica, a blank, since when its process runs (s)
    user:<u>     hash      connections of one user by sid; under the empty name when the last one disconnected
    sids:<u>     zset      the same sids, of a user with more than 100
    last_seen    zset      the users whose last connection has ended, by when it did (ms)
    presence:<u> string    whether a user is online, the version of that, since when (ms), and addresses
    absent:<p>   zset      users without a connection, by when the last one ended (ms)
    online:<p>   zset      users that are online, by when they were last examined (ms)
    undelivered:<c>:<p> zset users of whose newest change a consumer was not notified, by when it is due (ms)
    changed:<c>:<p> zset   the same users, by when the change happened (ms)
    swept        string    when users were last set offline that were absent, and when Redis was last reached again, or
                           found to have lost data (ms)
    listed:<n>   hash      the list of connections of a namespace by sid; under the empty name its version
    list_order:<n> zset    these sids, in the order in which they came
    sessions:<r> hash      sessions in use on one replica, by pid
    left:<pid>   string    a parked session
    left_ends    zset      the parked sessions, each as its pid, a blank and its bytes, by when it is forgotten
    left_of:<u>  zset      those of one user
    left_bytes   string    what all of them take
    parked:<a>   zset      sids whose connections are gone from one address and may be resumed, by when that ends (ms);
                           of one user in all namespaces under ``u:<u>``
    parked_at:<s> string   where such a sid is counted: what conns:<r> had of its connection
    webhook:<q>:<p> stream notifications of one partition of a webhook, by sequence
    queue:<q>    hash      what the queue of a webhook holds, in all and in each partition, and the failures
    dead_letters:<q> hash  notifications that are not tried any more, by id; under the empty name their bytes
    dead_order:<q> zset    their ids, in the order in which they were added
    owners:<q>   hash      the owner of each partition: replica, a blank, the process
    workers:<q>  zset      the processes that share the partitions, by when each last claimed some (ms)

``<a>`` is an address, ``!`` for the markers of losses, or that of the copies of a user's kept messages
(``domain.offline_queue``), ``<c>`` a consumer of changes of presence, ``<e>`` a client event, ``<n>`` a namespace,
``<p>`` a partition, ``<q>`` a webhook or other work that replicas share, ``<r>`` a replica, ``<s>`` a sid, ``<t>`` an
issuer, a blank and a token id, ``<u>`` a user, ``<w>`` the number of a window of time.
Channels: ``to:<a>`` for each address, ``replica:<r>`` for the probes and wake-ups of a replica. All databases of a
Redis share its channels, so in database 2 they are ``@2:to:<a>`` and ``@2:replica:<r>``; those of database 0 have no
number.
"""

from __future__ import annotations

from typing import Final

from gateway.domain.messages import Address
from gateway.domain.redis_url import check_prefix

_FIXED: Final = {
    "head": "head",
    "server": "server",
    "clock": "clock",
    "floors": "floors",
    "log": "log",
    "segments": "segments",
    "indexed": "indexed",
    "index_state": "index_state",
    "erased": "erased",
    "ids_new": "ids:new",
    "ids_old": "ids:old",
    "leases": "leases",
    "holders": "holders",
    "formats": "formats",
    "dead": "dead",
    "former_sids": "former_sids",
    "revoked_users": "revoked_users",
    "revoked_tokens": "revoked_tokens",
    "kept_users": "kept_users",
    "kept_sizes": "kept_sizes",
    "kept_bytes": "kept_bytes",
    "rates": "rates",
    "last_seen": "last_seen",
    "swept": "swept",
    "left_ends": "left_ends",
    "left_bytes": "left_bytes",
    "users": "users",
    "versions": "versions",
}
_FAMILIES: Final = {
    "index": "index:",
    "large": "large:",
    "volatile": "volatile:",
    "nonces": "nonces:",
    "answers": "answers:",
    "revoked": "revoked:",
    "revoked_token": "revoked_token:",
    "kept": "kept:",
    "ack": "ack:",
    "intent": "intent:",
    "acks": "acks:",
    "user_acks": "user_acks:",
    "conns": "conns:",
    "room": "room:",
    "rooms": "rooms:",
    "members": "members:",
    "room_users": "room_users:",
    "data": "data:",
    "user": "user:",
    "sids": "sids:",
    "presence": "presence:",
    "absent": "absent:",
    "online": "online:",
    "undelivered": "undelivered:",
    "changed": "changed:",
    "listed": "listed:",
    "list_order": "list_order:",
    "sessions": "sessions:",
    "left": "left:",
    "left_of": "left_of:",
    "parked": "parked:",
    "parked_at": "parked_at:",
    "webhook": "webhook:",
    "queue": "queue:",
    "dead_letters": "dead_letters:",
    "dead_order": "dead_order:",
    "owners": "owners:",
    "workers": "workers:",
}
"""Prefixes of families of keys. Each member adds what distinguishes it."""
LOSSES: Final = "!"
"""The address of the markers of losses. No other begins so, because namespaces begin with a slash."""
_CHANNELS: Final = {"channel": "to:", "probe": "replica:"}
"""Prefixes of families of channels."""


class RedisKeys:
    """The names under one prefix in one database. Raises ValueError for a prefix that ``check_prefix`` rejects."""

    def __init__(self, prefix: str, database: int = 0) -> None:
        self._prefix = check_prefix(prefix) + ":"
        # No prefix holds an @, so these are the channels of no other prefix.
        self._channels = self._prefix + (f"@{database}:" if database else "")
        self.has_former_channels = bool(database)
        """Whether releases that write record formats up to 3 use other channels: those of database 0."""

    def all(self) -> dict[str, str]:
        """Return every key and every prefix of a family, for the scripts. None holds what would end a string in Lua."""
        names = {name: self._prefix + rest for name, rest in {**_FIXED, **_FAMILIES}.items()}
        channels = {name: self._channels + rest for name, rest in _CHANNELS.items()}
        former = {"former_channel": self._prefix + _CHANNELS["channel"]}
        return {**names, **channels, **former, "losses": LOSSES}

    def named(self, name: str, member: str = "") -> str:
        """Return one key: a fixed one, or a member of a family."""
        return self._prefix + (_FIXED[name] if name in _FIXED else _FAMILIES[name] + member)

    def channel(self, address: Address) -> bytes:
        """Return the channel of an address."""
        return f"{self._channels}to:{address_name(address)}".encode()

    @property
    def losses(self) -> bytes:
        """The channel of the markers of losses."""
        return f"{self._channels}to:{LOSSES}".encode()

    def probe(self, replica: str) -> bytes:
        """Return the channel on which a replica publishes its probes."""
        return f"{self._channels}replica:{replica}".encode()


def address_name(address: Address) -> str:
    """Return an address as one text. A namespace holds no comma, so the text is unambiguous."""
    namespace, room = address
    return namespace if room is None else f"{namespace},{room}"
