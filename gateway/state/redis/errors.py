"""Errors of Redis and redis-py as errors of ``gateway.domain.errors``: was the command executed or not?

    NotExecuted       never sent, or rejected before it did anything    a BrokerUnavailable
    DeadlineExceeded  rejected because its deadline had passed          a NotExecuted
    OutcomeUnknown    sent, and not answered                            a BrokerTimeout

``Rejections`` holds what Redis rejects now although it answers, and logs when a rejection begins and when it ends.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import structlog
from redis import exceptions

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, GatewayError, StateMisconfigured

_NOT_PRIMARY: Final = ("READONLY", "MASTERDOWN", "UNBLOCKED")
_RETRYABLE: Final = ("LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS")
_REJECTED: Final = ("OOM", "MISCONF", "NOAUTH", "NOPERM", "WRONGPASS")
_MESSAGES: Final = {
    "READONLY": "this Redis is a replica now",
    "MASTERDOWN": "this Redis has lost its primary",
    "LOADING": "Redis is loading its data",
    "BUSY": "Redis is busy with a script",
    "NOREPLICAS": "Redis has too few replicas to accept writes",
    "OOM": "Redis is at its memory limit",
    "MISCONF": "Redis cannot save its data and accepts no writes",
    "NOAUTH": "Redis asks for a password",
    "NOPERM": "the Redis user lacks rights",
    "WRONGPASS": "Redis rejects the password",
}
EVICTS: Final = "EVICTS"
"""Our own code: Redis may evict what it stores."""
REJECTIONS: Final = (*(code for code in _MESSAGES if code != "WRONGPASS"), EVICTS)
"""The codes of rejections. A wrong password is NOAUTH, too: redis-py makes one error of both."""
_DENIED: Final = ("ACL failure in script", "The user executing the script can't")
"""How the errors of Valkey and Redis begin for a script that does what its user may not."""
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
"""redis-py removes the code from the message of some errors and raises errors of these types instead."""
FAILURE_SECONDS: Final = 60.0
"""A script that fails in the same way within this time is not logged again: a repeated call fails again."""
_MAX_FAILURES: Final = 100
REPLIES: Final = (
    exceptions.ResponseError,
    exceptions.BusyLoadingError,
    exceptions.AuthenticationError,
)
"""Errors that are answers of Redis. Every other error of redis-py means that the connection is lost."""

log = structlog.get_logger(__name__)


class NotExecuted(BrokerUnavailable):
    """Redis did nothing.

    ``retryable``: a further attempt within the deadline may succeed. ``not_primary``: the server is not a primary any
    more, so the connection is closed and the primary looked up again. ``rejection`` is one of REJECTIONS, or empty.
    """

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
    """Redis began the script after its deadline, when its clock showed ``redis_ms``.

    A caller that still waits took that clock to be earlier.
    """

    def __init__(self, redis_ms: int) -> None:
        super().__init__("Redis began the script after its deadline")
        self.redis_ms = redis_ms


class OutcomeUnknown(BrokerTimeout):
    """The connection was lost or too slow after the command was sent; or Redis stopped in the middle of the script.

    ``rejection`` is one of REJECTIONS if that is why Redis stopped, otherwise empty.
    """

    def __init__(self, message: str, *, rejection: str = "") -> None:
        super().__init__(message)
        self.rejection = rejection


def code_of(error: Exception) -> str:
    """Return the word with which an error reply begins (Redis protocol, "Simple errors")."""
    for kind, code in _BY_TYPE.items():
        if isinstance(error, kind):
            return code
    return str(error).partition(" ")[0]


def error_from_reply(error: Exception) -> GatewayError:
    """Translate an error reply to a script. An error that no list names may have occurred in the middle of it."""
    code = code_of(error)
    if code == "LATE":
        return DeadlineExceeded(int(str(error).split(" ")[1]))
    message, rejection = _MESSAGES.get(code, code), rejection_in(error)
    if code in _NOT_PRIMARY:
        return NotExecuted(message, not_primary=True, rejection=rejection)
    if code in _RETRYABLE:
        return NotExecuted(message, rejection=rejection)
    if code in _REJECTED:
        return NotExecuted(message, retryable=False, retry_after_seconds=5, rejection=rejection)
    if rejection:
        return OutcomeUnknown("the Redis user lacks rights that scripts need", rejection=rejection)
    return OutcomeUnknown(f"Redis failed while it worked on it ({code})")


def failure_to_connect(error: Exception, server: str, *, tls: bool) -> GatewayError:
    """Translate an error of redis-py while it connects. ``server`` names the server with its host and port.

    The sentence is for the operator: it says what failed, and quotes no user name and no password.
    """
    # A proxy that does not know AUTH would quote the password.
    text = str(error).partition(", with args")[0].rstrip(".")
    if isinstance(error, exceptions.NoPermissionError):
        return StateMisconfigured(f"{server} accepts the password, and its user lacks rights: {text}")
    if isinstance(error, exceptions.AuthenticationError):
        if text.startswith("NOAUTH") or "uthentication required" in text:
            return StateMisconfigured(f"{server} asks for a password, and the URL has none for it")
        return StateMisconfigured(f"{server} rejects the user and the password of the URL: {text}")
    if isinstance(error, exceptions.BusyLoadingError):
        return error_from_reply(error)
    if isinstance(error, exceptions.ResponseError):
        return NotExecuted(f"{server} rejects the connection: {text}", rejection=rejection_in(error))
    if isinstance(error, exceptions.TimeoutError):
        return NotExecuted(f"{server} does not answer: no connection in time")
    return NotExecuted(f"{server} cannot be reached: {_reason_of(error, tls=tls)}")


def _reason_of(error: BaseException, *, tls: bool) -> str:
    """Return why a connection failed: the first cause that is known by its type decides."""
    cause = error
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return f"its name cannot be resolved ({cause.strerror or cause})"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not accepted: {cause.verify_message.rstrip('.')}"
                " (ssl_ca_certs names the file of its authority)"
            )
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
            return f"it ends the TLS handshake: {cause.reason} (ssl_certfile and ssl_keyfile name a client certificate)"
        if isinstance(cause, ssl.SSLError):
            return "it does not speak TLS on this port; without TLS the URL begins with redis, not rediss"
        if isinstance(cause, FileNotFoundError | PermissionError):
            return f"a file of the TLS options cannot be read: {cause.strerror} ({cause.filename or 'ssl_…'})"
        # asyncio joins the errors of several addresses of a name in one text.
        if isinstance(cause, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(cause):
            return "no server listens there"
    if isinstance(cause, ConnectionError) or "closed by server" in str(error):
        other = "rediss://, if it speaks TLS" if not tls else "redis://, if it speaks no TLS"
        return f"it closed the connection at once; the URL is {other}"
    return str(cause).rstrip(".") or type(cause).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def rejection_in(error: BaseException | None) -> str:
    """Return the code of REJECTIONS that an error of redis-py stands for, or nothing."""
    if not isinstance(error, REPLIES):
        return ""
    if str(error).startswith(_DENIED):
        return "NOPERM"
    code = code_of(error)
    return code if code in REJECTIONS else ""


def rejection_of(problem: GatewayError) -> str:
    """Return the code of REJECTIONS that one of our errors stands for, or nothing."""
    if isinstance(problem, NotExecuted | OutcomeUnknown):
        return problem.rejection
    if isinstance(problem, StateMisconfigured):
        return rejection_in(problem.__cause__) or EVICTS
    return ""


class Rejections:
    """The rejection in force on each connection, if there is one."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        self._logged: dict[str, str] = {}
        self.now: Mapping[str, str] = MappingProxyType(self._now)
        """Connections on which Redis rejects something, each with the code of REJECTIONS."""

    @property
    def reason(self) -> str:
        """What is rejected, as a sentence for people; empty if nothing is."""
        return "; ".join(
            dict.fromkeys(f"{self._reasons[connection]} ({code})" for connection, code in self._now.items())
        )

    def record(self, connection: str, problem: GatewayError | None) -> None:
        """Record the last attempt on a connection; None is a success.

        A problem that is no rejection ends one without a log line, because Redis does not accept again. The next
        success logs that it does.
        """
        self._now.pop(connection, None)
        code = "" if problem is None else rejection_of(problem)
        if problem is None:
            before = self._logged.pop(connection, "")
            if before:
                log.info("redis.accepting", connection=connection, code=before)
        elif code:
            self._now[connection], self._reasons[connection] = code, problem.message
            if code != self._logged.get(connection):
                self._logged[connection] = code
                log.warning("redis.rejecting", connection=connection, code=code, reason=problem.message)


class ScriptFailures:
    """Logs why scripts failed: the same reason again only after FAILURE_SECONDS."""

    def __init__(self) -> None:
        self._log_again_at: dict[str, float] = {}

    def log(self, reason: str, now: float) -> None:
        """Log a reason, unless it was logged lately. ``now`` is the time by any one clock."""
        if now < self._log_again_at.get(reason, now):
            return
        if len(self._log_again_at) >= _MAX_FAILURES:
            self._log_again_at.clear()
        self._log_again_at[reason] = now + FAILURE_SECONDS
        log.error("redis.script_failed", reason=reason)
