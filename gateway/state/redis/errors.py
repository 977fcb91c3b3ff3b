"""What Redis and redis-py say, in the words of ``gateway.domain.errors``: did it certainly not happen, or may it have?

Unsent       never sent, or refused by Redis before it did anything  (BrokerUnavailable)
Late         refused because its deadline had passed                 (an Unsent)
Unanswered   sent, and no answer came                                (BrokerTimeout)
"""

from __future__ import annotations

from typing import Final

from redis import exceptions

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, GatewayError


class Unsent(BrokerUnavailable):
    """Redis did nothing. ``passing``: it will do it soon, so asking again within the deadline is worth while.
    ``moved``: this server is no primary any more, so the connection is given up and the primary looked for."""

    def __init__(
        self, message: str, *, passing: bool = True, moved: bool = False, retry_after_seconds: int = 1
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.passing = passing
        self.moved = moved


class Late(Unsent):
    """Redis came to it after the deadline, when its clock showed ``redis_ms``. Whoever still waits for it has another
    idea of that clock."""

    def __init__(self, redis_ms: int) -> None:
        super().__init__("Redis came to it only after the deadline")
        self.redis_ms = redis_ms


class Unanswered(BrokerTimeout):
    """The connection was lost, or too slow, between the question and the answer."""


_MOVED: Final = ("READONLY", "MASTERDOWN", "UNBLOCKED")
_PASSING: Final = ("LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS")
_REFUSED: Final = ("OOM", "MISCONF", "NOAUTH", "NOPERM", "WRONGPASS")
_WORDS: Final = {
    "READONLY": "this Redis is a replica now",
    "MASTERDOWN": "this Redis has lost its primary",
    "LOADING": "Redis is loading its data",
    "BUSY": "Redis is busy with a script",
    "NOREPLICAS": "Redis has too few replicas to accept writes",
    "OOM": "Redis is at its memory limit",
    "MISCONF": "Redis cannot save its data and accepts no writes",
    "NOAUTH": "Redis asks for a password",
    "NOPERM": "the Redis user lacks rights",
    "WRONGPASS": "Redis refuses the password",
}
_BY_TYPE: Final = {
    exceptions.BusyLoadingError: "LOADING",
    exceptions.AuthenticationError: "NOAUTH",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.NoPermissionError: "NOPERM",
}
"""redis-py takes the code off the message of some errors and turns them into types."""

REPLIES: Final = (
    exceptions.ResponseError,
    exceptions.BusyLoadingError,
    exceptions.AuthenticationError,
)
"""Errors that Redis answered; every other one of redis-py means that the connection is gone."""


def code_of(error: Exception) -> str:
    """The word that an error reply begins with (Redis protocol, "Simple errors")."""
    for kind, code in _BY_TYPE.items():
        if isinstance(error, kind):
            return code
    return str(error).partition(" ")[0]


def of_reply(error: Exception) -> GatewayError:
    """What an error reply to one of our scripts means. An error that no list names may have come halfway through."""
    code = code_of(error)
    if code == "LATE":
        return Late(int(str(error).split(" ")[1]))
    if code in _MOVED:
        return Unsent(_WORDS.get(code, code), moved=True)
    if code in _PASSING:
        return Unsent(_WORDS.get(code, code))
    if code in _REFUSED:
        return Unsent(_WORDS.get(code, code), passing=False, retry_after_seconds=5)
    return Unanswered(f"Redis failed while it worked on it ({code})")
