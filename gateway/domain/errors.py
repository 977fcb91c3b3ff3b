"""The errors of the gateway, as one tree. ``code`` is stable and part of the contract.

    GatewayError
    ├── InvalidName             a user id, room, namespace or event name that the rules forbid
    ├── MalformedPosition       text that is not a position of this gateway
    ├── BrokerUnavailable       the entry certainly was not accepted and will not be delivered
    │   ├── QueueFull           the queue of a webhook holds as many notifications as it may
    │   ├── OfflineQueueFull    as much is kept for users who are offline as may be
    │   └── FreshnessUnknown    the request may be a replay, because nonces may be lost or a clock was set
    ├── BrokerTimeout           unknown whether it was accepted; a repeat with the same dedup key delivers it once
    ├── StateMisconfigured      the shared state is configured so that the gateway must not rely on it
    ├── KeysUnavailable         the keys that tokens are verified with cannot be fetched now
    │   └── KeysStale           the issuer may have a newer key; its keys are fetched again soon
    ├── TooManyAckWaits         as many requests as allowed wait for acknowledgements of clients
    ├── ConnectsTooFast         the user connects too often; the client reconnects
    ├── NonceReplayed           this nonce of this ingest key was used before
    ├── IdempotencyConflict     this idempotency key was used with another body
    ├── ClientEventRejected     a client event had no effect, or an unknown one; the client gets the code
    ├── RecoveryFailed          a connection cannot be resumed; the client gets the code
    └── ConnectionRejected      a connection is not accepted; the client gets the code
        ├── TokenRejected       the token does not prove an identity
        └── TooManyConnections  the user has as many connections on this replica as allowed

``ingest_api.errors`` maps them to HTTP statuses, ``gateway.socketio_server.server`` to Socket.IO packets.
"""

from __future__ import annotations

from typing import ClassVar, Final

HISTORY_TRIMMED: Final = "history_trimmed"
DATA_LOST: Final = "data_lost"
GRANT_UNKNOWN: Final = "grant_unknown"
"""The codes of a gap in the history: entries were trimmed to keep a bound, or the state lost them."""


def release_frames(error: BaseException) -> None:
    """Drop the tracebacks of an exception that was handled, and of the exceptions before it.

    A traceback holds all variables of every function that the exception passed. If one of them holds the exception,
    as in a library that writes ``raise error``, they stay until the garbage collector runs, which is seldom
    (``gateway.process``).
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = None
        waiting += (current.__context__, current.__cause__)


class GatewayError(Exception):
    """Base of all errors. ``temporary``: the same request may succeed later."""

    code: str = "internal_error"
    temporary: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidName(GatewayError):
    """A name that breaks the rules of ``gateway.domain.names``; the message says which rule."""

    code = "invalid_name"


class MalformedPosition(GatewayError):
    """A position that is not of the form in ``gateway.domain.positions``."""

    code = "malformed_position"


class BrokerUnavailable(GatewayError):
    """The broker did not accept the entry and will not deliver it. Repeat after ``retry_after_seconds``."""

    code = "broker_unavailable"
    temporary = True

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class QueueFull(BrokerUnavailable):
    """The queue of a webhook is full, so nothing was accepted. Repeat once the backend has accepted some of it."""

    code = "backend_unavailable"

    def __init__(self, message: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)


class OfflineQueueFull(BrokerUnavailable):
    """As many messages are kept for users who are offline as may be. Nothing was accepted."""

    def __init__(self) -> None:
        super().__init__("as much is kept for users who are offline as may be", retry_after_seconds=60)


class FreshnessUnknown(BrokerUnavailable):
    """The timestamp does not show that the request is new, so it was not accepted. One signed later will be.

    Either the nonces that were used around that time may be lost, or clocks differ by more than is tolerated.
    """

    code = "freshness_unknown"


class BrokerTimeout(GatewayError):
    """The broker did not answer in time: unknown whether it accepted. Only a repeat with the same dedup key is safe."""

    code = "broker_timeout"
    temporary = True

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StateMisconfigured(GatewayError):
    """The operator of the shared state has to change something; the message says what."""

    code = "state_misconfigured"


class KeysUnavailable(GatewayError):
    """A token can be neither accepted nor rejected: the keys of its issuer could not be fetched. Try again later."""

    code = "keys_unavailable"
    temporary = True

    def __init__(self, message: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class KeysStale(KeysUnavailable):
    """The key of a token is not in the cached key set, which is older than the token. It is fetched again soon."""

    code = "keys_stale"


class TooManyAckWaits(GatewayError):
    """As many requests as allowed wait for acknowledgements on this replica; nothing was published."""

    code = "overloaded"
    temporary = True


class ConnectsTooFast(GatewayError):
    """The user has connected too often on this replica. A connect after some seconds succeeds."""

    code = "connect_rate"


class NonceReplayed(GatewayError):
    """The nonce was used by an earlier request of the same ingest key."""

    code = "replayed_request"


class IdempotencyConflict(GatewayError):
    """The idempotency key was used by an earlier request with another body."""

    code = "idempotency_conflict"


class RecoveryFailed(GatewayError):
    """A connection cannot be resumed, so a new one is made. ``code`` is sent to the client in ``recovery:failed``."""

    CODES = frozenset(
        {
            "unknown_session",
            "session_expired",
            "other_user",
            HISTORY_TRIMMED,
            DATA_LOST,
            GRANT_UNKNOWN,
            "malformed_position",
        }
    )

    def __init__(self, code: str) -> None:
        if code not in self.CODES:
            raise ValueError(f"{code!r} is not a code of a failed recovery")
        super().__init__(f"the connection cannot be resumed ({code})")
        self.code = code


class ClientEventRejected(GatewayError):
    """A client event failed. The client gets code, message and ``retry_after_seconds`` (None: no time is known).

    ``code`` is one of CODES, or the code that a webhook answered with. ``message`` names paths and keywords of schemas,
    never values.
    """

    CODES = frozenset(
        {
            "unknown_event",
            "invalid_payload",
            "rate_limited",
            "not_allowed",
            "not_a_member",
            "too_many_rooms",
            "busy",
            "rejected",
            "backend_unavailable",
            "backend_timeout",
            "backend_error",
            "broker_unavailable",
            "broker_timeout",
        }
    )

    def __init__(self, code: str, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_seconds = retry_after_seconds


def user_acks_full(retry_after_seconds: float) -> ClientEventRejected:
    """Return the error of an event of a user for whom no more can be remembered."""
    return ClientEventRejected(
        "busy",
        "more events of this user came lately than can be remembered",
        retry_after_seconds=round(retry_after_seconds, 3),
    )


class CallDropped(Exception):
    """A webhook was not called: while the call waited, it became one that is no longer wanted."""


class ConnectionRejected(GatewayError):
    """A connection is not accepted. The client gets the code as ``data.code`` of ``connect_error``.

    ``retry_after_seconds`` is set if the same request will succeed then; the client gets it as ``data.retryAfter``.
    """

    def __init__(self, message: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TokenRejected(ConnectionRejected):
    """The token does not prove an identity; docs/how-to/connect.md explains the codes."""

    CODES = frozenset(
        {
            "token_missing",
            "token_malformed",
            "token_too_long",
            "token_signature_invalid",
            "token_algorithm_refused",
            "token_expired",
            "token_not_active",
            "token_audience_invalid",
            "token_issuer_invalid",
            "token_claim_missing",
            "token_revoked",
            "token_invalid",
        }
    )

    def __init__(self, code: str, message: str, *, retry_after_seconds: int | None = None) -> None:
        if code not in self.CODES:
            raise ValueError(f"{code!r} is not a code of a rejected token")
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.code = code

    @classmethod
    def revoked(cls) -> TokenRejected:
        """Return the error of a token that was revoked."""
        return cls("token_revoked", "the token was revoked")


class TooManyConnections(ConnectionRejected):
    """The user has ``MAX_CONNECTIONS_PER_USER`` connections already."""

    code = "too_many_connections"


SERVER_FAILURES: Final = (
    BrokerTimeout.code,
    BrokerUnavailable.code,
    KeysUnavailable.code,
    KeysStale.code,
    GatewayError.code,
)
"""Codes of failures for which the client is not to blame."""
