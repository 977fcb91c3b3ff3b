"""What Redis and redis-py say, in the words of ``gateway.domain.errors``: did it certainly not happen, or may it have?

Unsent       never sent, or refused by Redis before it did anything  (BrokerUnavailable)
Late         refused because its deadline had passed                 (an Unsent)
Unanswered   sent, and no answer came                                (BrokerTimeout)

What Redis refuses at the moment, although it answers: said once when it begins, and once when it is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import structlog
from redis import exceptions

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, GatewayError, StateMisconfigured


class NotExecuted(BrokerUnavailable):
    """Redis did nothing. ``passing``: it will do it soon, so asking again within the deadline is worth while.
    ``moved``: this server is no primary any more, so the connection is given up and the primary looked for.
    ``refusal`` is one of REFUSALS, or nothing where Redis did not refuse it."""

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = True,
        not_primary: bool = False,
        retry_after_seconds: int = 1,
        rejection: str = "",
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.retryable = retryable
        self.not_primary = not_primary
        self.rejection = rejection


class DeadlineExceeded(NotExecuted):
    """Redis came to it after the deadline, when its clock showed ``redis_ms``. Whoever still waits for it has another
    idea of that clock."""

    def __init__(self, redis_ms: int) -> None:
        super().__init__("Redis came to it only after the deadline")
        self.redis_ms = redis_ms


class OutcomeUnknown(BrokerTimeout):
    """The connection was lost, or too slow, between the question and the answer; or Redis stopped halfway, and said
    why in a ``refusal``."""

    def __init__(self, message: str, *, rejection: str = "") -> None:
        super().__init__(message)
        self.rejection = rejection


_NOT_PRIMARY: Final = ("READONLY", "MASTERDOWN", "UNBLOCKED")
_RETRYABLE: Final = ("LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS")
_REJECTED: Final = ("OOM", "MISCONF", "NOAUTH", "NOPERM", "WRONGPASS")
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
EVICTS: Final = "EVICTS"
"""Our own word: what this Redis takes it may forget."""
REJECTIONS: Final = (*(code for code in _WORDS if code != "WRONGPASS"), EVICTS)
"""Why Redis refuses, in its own words; a wrong password is a NOAUTH too, since redis-py makes one error of them."""
_DENIED: Final = ("ACL failure in script", "The user executing the script can't")
"""How Valkey and Redis begin when a script does what its user may not."""
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


def error_from_reply(error: Exception) -> GatewayError:
    """What an error reply to one of our scripts means. An error that no list names may have come halfway through."""
    code = code_of(error)
    if code == "LATE":
        return DeadlineExceeded(int(str(error).split(" ")[1]))
    message, rejection = _WORDS.get(code, code), rejection_in(error)
    if code in _NOT_PRIMARY:
        return NotExecuted(message, not_primary=True, rejection=rejection)
    if code in _RETRYABLE:
        return NotExecuted(message, rejection=rejection)
    if code in _REJECTED:
        return NotExecuted(message, retryable=False, retry_after_seconds=5, rejection=rejection)
    if rejection:
        return OutcomeUnknown("the Redis user lacks rights that scripts need", rejection=rejection)
    return OutcomeUnknown(f"Redis failed while it worked on it ({code})")


def rejection_in(error: BaseException | None) -> str:
    """One of REFUSALS, if an error of redis-py is a reply that says so."""
    if not isinstance(error, REPLIES):
        return ""
    if str(error).startswith(_DENIED):
        return "NOPERM"
    code = code_of(error)
    return code if code in REJECTIONS else ""


def rejection_of(problem: GatewayError) -> str:
    """The same of a problem in our words."""
    if isinstance(problem, NotExecuted | OutcomeUnknown):
        return problem.rejection
    if isinstance(problem, StateMisconfigured):
        return rejection_in(problem.__cause__) or EVICTS
    return ""


log = structlog.get_logger(__name__)


class Rejections:
    """Of each connection the refusal that lasts, if one does."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        self.now: Mapping[str, str] = MappingProxyType(self._now)
        """Connections on which something is refused, and the words of Redis for it (``errors.REFUSALS``)."""

    @property
    def reason(self) -> str:
        """What is refused, as a sentence for people; nothing where nothing is."""
        return "; ".join(
            dict.fromkeys(f"{self._reasons[connection]} ({word})" for connection, word in self._now.items())
        )

    def record(self, connection: str, problem: GatewayError | None) -> None:
        """What became of the last attempt. A problem that is no refusal ends one too, but Redis takes nothing again."""
        before = self._now.pop(connection, "")
        word = "" if problem is None else rejection_of(problem)
        if problem is not None and word:
            self._now[connection], self._reasons[connection] = word, problem.message
            if word != before:
                log.warning("redis.rejecting", connection=connection, code=word, reason=problem.message)
        elif before and problem is None:
            log.info("redis.accepting", connection=connection, code=before)
