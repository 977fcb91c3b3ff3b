"""The connections of one webhook: aiohttp's connector, which also records what became of a connection.

Whether a request may be sent again depends on it: only if there was no connection, or one that was kept alive and ended
before the first byte of an answer (RFC 9110 §9.2.2, RFC 9112 §9.3.1). aiohttp reports neither.
"""

from __future__ import annotations

import functools
import ssl
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from aiohttp import ClientRequest, ClientTimeout, TCPConnector
from aiohttp.client_proto import ResponseHandler

from gateway.domain.webhooks import WebhookTls
from gateway.webhooks.addresses import AddressCheck

if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

KEEPALIVE_SECONDS: Final = 15.0


class Protocol(ResponseHandler):
    """A connection. ``requests`` were sent on it; ``has_received``: a byte came since the last one began."""

    requests = 0
    has_received = False

    def data_received(self, data: bytes) -> None:
        self.has_received = True
        super().data_received(data)


class Attempt:
    """One try of a request; ``protocol`` is None until there is a connection."""

    def __init__(self) -> None:
        self.protocol: Protocol | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the request was, or may have been, sent."""
        return self.protocol is not None

    @property
    def was_idle_connection(self) -> bool:
        """Whether the connection was kept alive, and no byte of an answer came."""
        return self.protocol is not None and self.protocol.requests > 1 and not self.protocol.has_received


current_attempt: ContextVar[Attempt] = ContextVar("current_attempt")
"""The try that the running task makes."""


class Connector(TCPConnector):
    """The pool of one webhook. Its limit is that of the requests in flight, which is kept outside."""

    def __init__(self, tls: WebhookTls, check: AddressCheck) -> None:
        super().__init__(
            limit=0,
            keepalive_timeout=KEEPALIVE_SECONDS,
            socket_factory=check,
            ssl=create_ssl_context(tls) or True,
        )
        self._factory = functools.partial(Protocol, loop=self._loop)  # type: ignore[assignment]

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109  # of aiohttp
    ) -> Connection:
        """Return a connection, and record it in ``current_attempt``."""
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        if isinstance(protocol, Protocol):
            protocol.requests += 1
            protocol.has_received = False
            current_attempt.get().protocol = protocol
        return connection


def create_ssl_context(tls: WebhookTls) -> ssl.SSLContext | None:
    """Return the context for authorities and certificates of files; None: the default of the system.

    Raises: ValueError with one sentence about a file.
    """
    if tls.ca_file is None and tls.cert_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ssl.SSLError):
        raise ValueError(f"{tls.ca_file} has no certificates in PEM that can be read") from None
    if tls.cert_file is not None:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
        except (OSError, ValueError):
            raise ValueError(
                f"{tls.cert_file} and {tls.key_file} are no certificate and its key without a password, in PEM"
            ) from None
    return context


def _no_password() -> str:
    # Without it OpenSSL would ask at the terminal.
    raise ValueError("the key has a password")
