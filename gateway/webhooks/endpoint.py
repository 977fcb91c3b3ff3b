"""One webhook: its connections, its limit of requests in flight, its circuit breaker, and the sending itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

import aiohttp

from gateway.domain.bounded_body import BodyTooLarge, read_bounded
from gateway.domain.errors import CallDropped, ClientEventRejected
from gateway.domain.traces import Trace, format_traceparent
from gateway.domain.webhooks import Webhook, decode_secret
from gateway.interfaces import Clock
from gateway.webhooks.addresses import AddressCheck, AddressRejected
from gateway.webhooks.answers import MAX_ANSWER_BYTES, Answer, has_meaning
from gateway.webhooks.circuit import CircuitBreaker
from gateway.webhooks.connections import Attempt, Connector, current_attempt
from gateway.webhooks.signing import signature_headers
from gateway.webhooks.slots import Slots

MAX_TRIES: Final = 2
_READ_BYTES: Final = 64 * 1024
_NO_LIMITS: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None)
"""aiohttp rounds its timeouts up; the whole exchange has one of asyncio."""
_PERMANENT: Final = (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)
"""Failures to connect that a second try meets again."""


class EncodedAnswer(Exception):
    """An answer has a content encoding, although none is accepted."""


FAILURES: Final = (aiohttp.ClientError, OSError, RuntimeError, BodyTooLarge, EncodedAnswer)
"""What an exchange ends with that brings no usable answer; uvloop raises RuntimeError for closed connections."""


class Exchange:
    """One request with its tries, as far as it came."""

    def __init__(
        self, event_id: str, body: bytes, trace: Trace, is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """``is_wanted`` is asked before each try, as long as the backend cannot have received the request."""
        self.event_id = event_id
        self.body = body
        self.trace = trace
        self.is_wanted = is_wanted
        self.tries = 0
        self.status: int | None = None
        self.was_sent = False
        self.is_probe = False
        self.attempt = Attempt()

    @property
    def may_have_arrived(self) -> bool:
        """Whether the backend may have received the request."""
        return self.was_sent or self.attempt.is_connected


class Endpoint:
    """One webhook. ``webhook`` may be replaced by one with other secrets, timeouts or scopes."""

    def __init__(
        self,
        webhook: Webhook,
        *,
        clock: Clock,
        user_agent: str,
        own_ports: Callable[[], Collection[int]],
        on_circuit_changed: Callable[[bool], None],
    ) -> None:
        """Must be called on the running event loop. Raises ValueError if secrets or files cannot be used."""
        self.change(webhook)
        self.circuit = CircuitBreaker(clock, on_circuit_changed)
        self._clock = clock
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.slots = Slots(webhook.in_flight)
        check = AddressCheck(
            plain=webhook.url.startswith("http:"), insecure=webhook.insecure, own_ports=own_ports
        )
        self._session = aiohttp.ClientSession(
            connector=Connector(webhook.tls, check),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_LIMITS,
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_BYTES,
            headers={
                "accept": "application/json",
                "accept-encoding": "identity",
                "content-type": "application/json",
                "user-agent": user_agent,
            },
        )

    def change(self, webhook: Webhook) -> None:
        """Use the secrets, the timeout and the scopes of ``webhook`` for every try that begins from now on."""
        self.webhook = webhook
        self._keys = [decode_secret(secret) for secret in webhook.secrets]

    def serves(self, webhook: Webhook) -> bool:
        """Return whether ``change`` is enough for ``webhook``: its connections and its limit are the same."""
        mine = self.webhook
        return (mine.url, mine.insecure, mine.tls, mine.in_flight) == (
            webhook.url,
            webhook.insecure,
            webhook.tls,
            webhook.in_flight,
        )

    async def send(self, exchange: Exchange) -> Answer:
        """Wait for a slot and send the request, a second time where that is safe.

        Raises: CircuitOpen; CallDropped; ClientEventRejected, with ``busy``, ``backend_unavailable``,
            ``backend_timeout`` or ``backend_error``.
        """
        self.circuit.check()
        self.slots.check()
        deadline = self._clock.monotonic() + self.webhook.timeout_seconds
        self._idle.clear()
        try:
            async with asyncio.timeout(self.webhook.timeout_seconds):
                await self.slots.take(exchange.is_wanted)
                return await self._send_in_slot(exchange, deadline)
        except TimeoutError:
            if exchange.tries:
                self.circuit.failed(probe=exchange.is_probe)
            raise _late(exchange) from None
        finally:
            self._set_idle()

    async def deliver(self, exchange: Exchange, *, seconds: float) -> Answer:
        """Wait for a slot, then send the request within ``seconds``, a second time where that is safe.

        The circuit breaker has no part in it: deliveries have pauses of their own, and they neither open nor close it.
        A large or encoded body is left unread, because the status decides.

        Raises: CallDropped if the request is no longer wanted; FAILURES; TimeoutError.
        """
        self._idle.clear()
        try:
            await self.slots.take_for_delivery(exchange.is_wanted)
            try:
                async with asyncio.timeout(seconds):
                    return await self.exchange(exchange, None)
            finally:
                self.slots.release_delivery()
        finally:
            self._set_idle()

    async def exchange(self, exchange: Exchange, deadline: float | None) -> Answer:
        """Send the request, a second time where that is safe.

        ``deadline`` is the monotonic time of the end of a call. None: it is a delivery, whose request names none.

        Raises: FAILURES; CallDropped.
        """
        while True:
            if self._is_closed:
                raise aiohttp.ClientConnectionError("the gateway stops")
            if not exchange.may_have_arrived and not exchange.is_wanted():
                raise CallDropped
            exchange.tries += 1
            exchange.attempt = Attempt()
            try:
                return await self._try(exchange, deadline)
            except FAILURES as error:
                if exchange.tries >= MAX_TRIES or not _may_repeat(exchange.attempt, error):
                    raise
                exchange.was_sent |= exchange.attempt.is_connected

    async def finish(self) -> None:
        """Close the connections once no request is under way."""
        await self._idle.wait()
        await self.close()

    async def close(self) -> None:
        """Close the connections. Requests that are under way fail."""
        self._is_closed = True
        await self._session.close()

    async def _send_in_slot(self, exchange: Exchange, deadline: float) -> Answer:
        try:
            exchange.is_probe = self.circuit.enter()
            try:
                answer = await self.exchange(exchange, deadline)
            except FAILURES as error:
                self.circuit.failed(probe=exchange.is_probe)
                raise _failure(exchange, error) from error
            except BaseException:
                # After a timeout the caller records the failure.
                self.circuit.abandoned(probe=exchange.is_probe)
                raise
            if has_meaning(answer.status):
                self.circuit.succeeded()
            else:
                self.circuit.failed(probe=exchange.is_probe)
            return answer
        finally:
            self.slots.release()

    def _set_idle(self) -> None:
        if self.slots.is_idle:
            self._idle.set()

    async def _try(self, exchange: Exchange, deadline: float | None) -> Answer:
        headers = signature_headers(
            event_id=exchange.event_id,
            timestamp=int(self._clock.now()),
            body=exchange.body,
            keys=self._keys,
        )
        if deadline is not None:
            headers["gateway-timeout"] = f"{max(0.0, deadline - self._clock.monotonic()):.2f}"
        headers["traceparent"] = format_traceparent(exchange.trace)
        token = current_attempt.set(exchange.attempt)
        try:
            async with self._session.post(
                self.webhook.url, data=exchange.body, headers=headers, allow_redirects=False
            ) as response:
                exchange.status = response.status
                return await (_drain(response) if deadline is None else _read(response))
        finally:
            current_attempt.reset(token)


async def _read(response: aiohttp.ClientResponse) -> Answer:
    """Read the body, unless the status alone decides; what is not read is dropped with the connection."""
    retry_after = response.headers.get("retry-after")
    if not has_meaning(response.status):
        return Answer(response.status, retry_after=retry_after)
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise EncodedAnswer
    if (response.content_length or 0) > MAX_ANSWER_BYTES:
        raise BodyTooLarge
    body = await read_bounded(response.content.readany, MAX_ANSWER_BYTES)
    return Answer(response.status, body, retry_after)


async def _drain(response: aiohttp.ClientResponse) -> Answer:
    """Read a body of up to MAX_ANSWER_BYTES, so that the connection can be used again, and return the rest."""
    if (response.content_length or 0) <= MAX_ANSWER_BYTES:
        with suppress(BodyTooLarge):
            await read_bounded(response.content.readany, MAX_ANSWER_BYTES)
    return Answer(response.status, retry_after=response.headers.get("retry-after"))


def reason_of(error: ClientEventRejected) -> str | None:
    """Return what the operator should know of a failure: the rule that an answer breaks, or the kind of an error.

    It has no host, as texts of aiohttp have, and nothing of an answer.
    """
    notes: list[str] = getattr(error, "__notes__", [])
    if notes:
        return "; ".join(notes)
    return None if error.__cause__ is None else kind_of(error.__cause__)


def kind_of(error: BaseException) -> str:
    os_error = getattr(error, "os_error", None)
    return str(os_error) if isinstance(os_error, AddressRejected) else type(error).__name__


def _may_repeat(attempt: Attempt, error: Exception) -> bool:
    if isinstance(error, (BodyTooLarge, EncodedAnswer)):
        return False
    if not attempt.is_connected:
        rejected = isinstance(getattr(error, "os_error", None), AddressRejected)
        return not rejected and not isinstance(error, _PERMANENT)
    return attempt.was_idle_connection


def _late(exchange: Exchange) -> ClientEventRejected:
    if not exchange.tries:
        return ClientEventRejected("busy", "too many events wait for the backend", retry_after_seconds=1)
    if not exchange.may_have_arrived:
        return ClientEventRejected("backend_unavailable", "the backend cannot be reached")
    return ClientEventRejected("backend_timeout", "the backend did not answer in time")


def _failure(exchange: Exchange, error: Exception) -> ClientEventRejected:
    if isinstance(error, (BodyTooLarge, EncodedAnswer)):
        return ClientEventRejected("backend_error", "the answer of the backend has a wrong form")
    if not exchange.may_have_arrived:
        return ClientEventRejected("backend_unavailable", "the backend cannot be reached")
    return ClientEventRejected("backend_error", "the backend gave no complete answer")
