"""``RedisLimits``: what Redis holds at most and for how long, and the same as constants of the scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.domain.dedup import (
    AHEAD_SECONDS,
    CLOCK_TOLERANCE_SECONDS,
    MAX_ACK_BYTES,
    MAX_USER_ACK_BYTES,
    MAX_USER_ACKS,
    WINDOW_SECONDS,
)
from gateway.domain.notifications import (
    DEAD_LETTER_SECONDS,
    MAX_DEAD_LETTER_BYTES,
    MAX_DEAD_LETTERS,
    MAX_QUEUED,
    MAX_QUEUED_BYTES,
    PRESENCE_PARTITIONS,
    QUEUE_SECONDS,
)
from gateway.domain.offline_queue import (
    KEPT_ENTRY_BYTES,
    MAX_KEPT,
    MAX_KEPT_BYTES,
    MAX_OFFLINE_BYTES,
    MAX_TTL_SECONDS,
)
from gateway.domain.presence import MAX_PRESENCE_ADDRESSES
from gateway.state.redis.codec import INLINE_BYTES
from gateway.state.redis.command_connection import BRANCHES
from gateway.state.redis.records import MESSAGE_LETTER, REPLY_FORMAT, TAGGED_FORMAT, TILDE_FORMAT

_FORMATS: Final = {
    "tilde_format": TILDE_FORMAT,
    "tagged_byte": ord(str(TAGGED_FORMAT)),
    "index_format": TAGGED_FORMAT,
    "listing_format": REPLY_FORMAT,
    "message_byte": ord(MESSAGE_LETTER),
}
"""What scripts know of the records."""
_HISTORY_COSTS: Final = {"entry_bytes": 200, "position_bytes": 22, "index_bytes": 380}
"""What HISTORY_BYTES counts beside the bytes of a record: its place in the log and in ``ids:new``, a position in an
index, and an index, besides its name, which is stored twice; as MEMORY USAGE shows them."""
KEEP_SECONDS: Final = 86_400.0
"""The TTL of keys that a living replica renews: longer than any outage after which they should still exist."""
DAY: Final = 86_400.0
_MANY_SIDS: Final = 100
"""A list of the connections of a user with more is read from a sorted set of their sids."""
WORKER_SECONDS: Final = 5.0
"""How long a process shares the partitions of a work after it last claimed some; it does each second."""
_SEGMENTS: Final = 8
"""The log is cut in segments of an eighth of each bound, so it holds at most an eighth more than its bounds."""
_BYTE_SEGMENTS: Final = 32
"""The same for bytes: a segment is the least that is removed when the indexes take too much."""
_MIN_ENTRY_BYTES: Final = 300
"""What HISTORY_BYTES counts for an entry at least."""
_MAX_SEGMENT_ENTRIES: Final = 1_000
_MIN_RESULT_SECONDS: Final = 60.0
_MIN_RESULTS: Final = 1_000
"""Results by message id are remembered at least for so long and so many, whatever the bounds of the history."""
_VOLATILE_SECONDS: Final = 10.0
"""A volatile message that is too large for a channel is kept for twice as long."""
_KEPT_EXAMINED: Final = 500
"""Messages of the offline queue that one script examines to remove some, and those of one more user."""

_PRESENCE_KEEP_SECONDS: Final = 3600.0
"""How long the version is kept of a user who is offline and whose change was delivered: longer than replicas remember
users who left."""


@dataclass(kw_only=True, eq=False, repr=False)
class RedisLimits:
    """The limits of a state over Redis. Those without a default belong to the deployment."""

    history_length: int
    history_bytes: int
    recovery_seconds: float
    history_slack_seconds: float = 60.0
    lease_seconds: float = 15.0
    nonces: int = 15_000_000
    nonce_seconds: float = 720.0
    idempotency_seconds: float = 3600.0
    idempotency_keys: int = 5_000_000
    revocation_seconds: float = 30 * DAY
    last_seen_seconds: float = 30 * DAY
    ack_seconds: float = 600.0
    max_acks: int = 1_000_000
    max_parked_of_user: int | None = None
    max_parked_bytes: int = 2 * 1024 * 1024 * 1024
    last_seen_users: int = 1_000_000
    revoked_users: int = 1_000_000
    revoked_tokens: int = 1_000_000
    rate_buckets: int = 100_000
    wait_replicas: int = 0
    max_user_acks: int = MAX_USER_ACKS
    max_user_ack_bytes: int = MAX_USER_ACK_BYTES
    max_queued: int = MAX_QUEUED
    max_queued_bytes: int = MAX_QUEUED_BYTES
    max_dead_letters: int = MAX_DEAD_LETTERS
    max_dead_letter_bytes: int = MAX_DEAD_LETTER_BYTES
    max_kept: int = MAX_KEPT
    max_kept_bytes: int = MAX_KEPT_BYTES
    max_offline_bytes: int = MAX_OFFLINE_BYTES

    def constants(self) -> dict[str, int | bool]:
        """Return the members of ``L``, which the scripts hold as constants."""
        age = self.recovery_seconds + self.history_slack_seconds
        return {
            "shift": 0,
            "keep": _ms(max(KEEP_SECONDS, 2 * age)),
            "branches": BRANCHES,
            "waits": self.wait_replicas > 0,
            "lease": _ms(self.lease_seconds),
            **_FORMATS,
            "age": _ms(age),
            "recovery": _ms(self.recovery_seconds),
            # Without a recovery window the log serves resyncs alone, and no client needs the part of one address.
            "indexed": self.recovery_seconds > 0,
            "history_length": self.history_length,
            "history_bytes": self.history_bytes,
            "segment_length": max(1, min(_MAX_SEGMENT_ENTRIES, self.history_length // _SEGMENTS)),
            "segment_bytes": max(1, self.history_bytes // _BYTE_SEGMENTS),
            "segment_age": _ms(age / _SEGMENTS),
            **_HISTORY_COSTS,
            "ids": max(min(self.history_length, self.history_bytes // _MIN_ENTRY_BYTES), _MIN_RESULTS),
            "ids_age": _ms(max(age, _MIN_RESULT_SECONDS)),
            "nonce_window": _ms(self.nonce_seconds / 2),
            "nonces": max(1, self.nonces // 3),
            "window": WINDOW_SECONDS,
            "ahead": AHEAD_SECONDS,
            "clock_tolerance": _ms(CLOCK_TOLERANCE_SECONDS),
            "answer_window": _ms(self.idempotency_seconds / 4),
            "answers": max(1, self.idempotency_keys // 5),
            "ack": _ms(self.ack_seconds),
            "ack_window": _ms(self.ack_seconds / 4),
            "acks": max(1, self.max_acks // 5),
            "ack_bytes": MAX_ACK_BYTES,
            "user_acks": self.max_user_acks,
            "user_ack_bytes": self.max_user_ack_bytes,
            "volatile_window": _ms(_VOLATILE_SECONDS),
            "volatile_bytes": max(1, self.history_bytes // 4),
            "revocation": _ms(self.revocation_seconds),
            "last_seen": _ms(self.last_seen_seconds),
            "last_seen_users": self.last_seen_users,
            "many_sids": _MANY_SIDS,
            "presence_partitions": PRESENCE_PARTITIONS,
            "presence_addresses": MAX_PRESENCE_ADDRESSES,
            "undelivered_keep": _ms(QUEUE_SECONDS),
            "presence_keep": _ms(_PRESENCE_KEEP_SECONDS),
            "undelivered": max(1, self.last_seen_users // PRESENCE_PARTITIONS),
            # Users are set offline each second. After a longer pause replicas first get the time to report again.
            "sweep_gap": _ms(self.lease_seconds / 3),
            "revoked_users": self.revoked_users,
            "revoked_tokens": self.revoked_tokens,
            "rate_buckets": self.rate_buckets,
            "user_parked": self.max_parked_of_user or 0,
            "parked_bytes": self.max_parked_bytes,
            **self._queue_constants(),
            **self._offline_constants(),
        }

    def _offline_constants(self) -> dict[str, int]:
        return {
            "kept": self.max_kept,
            "kept_bytes": self.max_kept_bytes,
            "kept_entry": KEPT_ENTRY_BYTES,
            "kept_age": _ms(MAX_TTL_SECONDS + DAY),
            "kept_examined": _KEPT_EXAMINED,
            "offline_bytes": self.max_offline_bytes,
            "inline_bytes": INLINE_BYTES,
        }

    def _queue_constants(self) -> dict[str, int]:
        return {
            "queue": _ms(QUEUE_SECONDS),
            "queued": self.max_queued,
            "queued_bytes": self.max_queued_bytes,
            "dead_letters": self.max_dead_letters,
            "dead_bytes": self.max_dead_letter_bytes,
            "dead_age": _ms(DEAD_LETTER_SECONDS),
            "worker": _ms(WORKER_SECONDS),
        }


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
