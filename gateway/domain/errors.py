"""Everything that can be refused, as one tree. ``code`` is stable and part of the contract.

    GatewayError
    ├── InvalidName             a user id, room, namespace or event name that the rules forbid
    ├── MalformedPosition       a position that this gateway never handed out
    ├── BrokerUnavailable       the message certainly was not accepted and will not be delivered
    ├── BrokerTimeout           unknown whether it was accepted; a repeat with the same claim delivers it once
    ├── StateMisconfigured         the shared state is set up so that the gateway must not rely on it
    ├── KeysUnavailable         the keys to check a token with cannot be had at the moment
    ├── NonceReplayed           this nonce of this key was spent before
    ├── IdempotencyConflict     this idempotency key was used with another body
    ├── RecoveryFailed          a connection that cannot go on where it was; its client is told why
    └── ConnectionRejected              a connection that may not be; says so to the client
        ├── TokenRejected           the token does not prove who it is
        └── TooManyConnections      the user has as many connections on this replica as allowed

The doors map them: ``ingest_api.errors`` to HTTP statuses, ``gateway.socketio_server.server`` to Socket.IO.
"""

from __future__ import annotations

from typing import ClassVar, Final

HISTORY_TRIMMED: Final = "history_trimmed"
DATA_LOST: Final = "data_lost"
"""Why there is a gap in a stream: it was let go of to keep a bound, or whoever held it lost it."""


class GatewayError(Exception):
    """Base of all; ``temporary`` tells whether the same request may succeed later."""

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
    """The broker did not take the message; nobody gets it. Repeat after ``retry_after_seconds``."""

    code = "broker_unavailable"
    temporary = True

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class BrokerTimeout(GatewayError):
    """No answer in time: accepted or not, nobody knows. Only a repeat under the same claim is safe."""

    code = "broker_timeout"
    temporary = True

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StateMisconfigured(GatewayError):
    """Whoever operates the shared state has to change something; the message says what."""

    code = "state_unusable"


class KeysUnavailable(GatewayError):
    """Nobody knows whether the token is good: its issuer's keys could not be fetched. Try again later."""

    code = "keys_unavailable"
    temporary = True

    def __init__(self, message: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NonceReplayed(GatewayError):
    """The nonce was spent by an earlier request of the same ingest key."""

    code = "replayed_request"


class IdempotencyConflict(GatewayError):
    """The idempotency key belongs to an earlier request with another body."""

    code = "idempotency_conflict"


class RecoveryFailed(GatewayError):
    """A connection begins anew; ``code`` is why, and part of the Socket.IO contract (``recovery:failed``)."""

    CODES = frozenset(
        {
            "unknown_session",
            "session_expired",
            "other_user",
            HISTORY_TRIMMED,
            DATA_LOST,
            "malformed_position",
        }
    )

    def __init__(self, code: str) -> None:
        if code not in self.CODES:
            raise ValueError(f"{code!r} is not a code of a failed recovery")
        super().__init__(f"the connection cannot be resumed ({code})")
        self.code = code


class ConnectionRejected(GatewayError):
    """A connection that is not let in. The code reaches the client as ``data.code`` of ``connect_error``."""


class TokenRejected(ConnectionRejected):
    """A token that proves nothing; ``code`` is one of those listed in the Socket.IO contract."""

    CODES = frozenset(
        {
            "token_missing",
            "token_malformed",
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

    def __init__(self, code: str, message: str) -> None:
        if code not in self.CODES:
            raise ValueError(f"{code!r} is not a code of a refused token")
        super().__init__(message)
        self.code = code


class TooManyConnections(ConnectionRejected):
    """The user has ``MAX_CONNECTIONS_PER_USER`` connections on this replica already."""

    code = "too_many_connections"
