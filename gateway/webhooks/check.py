"""Check a webhook: send ``webhook.test`` and name what is wrong, for operators at a terminal."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import aiohttp

from gateway.domain.bounded_body import BodyTooLarge
from gateway.domain.errors import ClientEventRejected
from gateway.domain.traces import new_trace
from gateway.domain.webhooks import Webhook
from gateway.interfaces import Clock
from gateway.webhooks.addresses import AddressRejected
from gateway.webhooks.answers import MAX_ANSWER_BYTES, Answer, parse_answer
from gateway.webhooks.client import encode_event
from gateway.webhooks.endpoint import FAILURES, EncodedAnswer, Endpoint, Exchange

TEST_EVENT: Final = "webhook.test"
OK: Final = "ok"
WARNING: Final = "warning"
PROBLEM: Final = "problem"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found: a level (OK, WARNING, PROBLEM), a sentence, and a remedy, empty if none is needed."""

    level: str
    sentence: str
    remedy: str = ""


async def check_webhook(
    webhook: Webhook, *, clock: Clock, user_agent: str, own_ports: Collection[int]
) -> CheckResult:
    """Send ``webhook.test`` and return what is wrong, within the timeout of the webhook."""
    try:
        endpoint = Endpoint(
            webhook,
            clock=clock,
            user_agent=user_agent,
            own_ports=lambda: own_ports,
            on_circuit_changed=lambda _is_open: None,
        )
    except ValueError as error:
        return CheckResult(PROBLEM, f"It cannot be used: {error}.", "Correct its settings.")
    exchange = Exchange(
        f"test-{secrets.token_hex(8)}",
        encode_event(TEST_EVENT, clock.now(), {"webhook": webhook.id}),
        new_trace(),
    )
    started = clock.monotonic()
    try:
        async with asyncio.timeout(webhook.timeout_seconds):
            answer = await endpoint.exchange(exchange, started + webhook.timeout_seconds)
    except FAILURES as error:
        return explain_failure(error, exchange, webhook)
    finally:
        await endpoint.close()
    return explain_answer(answer, clock.monotonic() - started, webhook)


def explain_failure(error: Exception, exchange: Exchange, webhook: Webhook) -> CheckResult:
    """Return what is wrong with a webhook that gave no complete answer."""
    if isinstance(error, BodyTooLarge):
        return CheckResult(
            PROBLEM,
            f"Its answer has more than {MAX_ANSWER_BYTES} bytes.",
            "Answer with what the client needs.",
        )
    if isinstance(error, EncodedAnswer):
        return CheckResult(
            PROBLEM, "Its answer has a Content-Encoding.", "Compress nothing: accept-encoding is identity."
        )
    if exchange.may_have_arrived:
        if isinstance(error, TimeoutError):
            return CheckResult(
                PROBLEM,
                f"It did not answer within {webhook.timeout_seconds:g} seconds.",
                "Answer sooner and do the work later, or raise timeout_seconds.",
            )
        return CheckResult(
            PROBLEM,
            "The connection ended before its answer was complete, or the answer is not HTTP.",
            "Look at the log of the backend and of the proxy in front of it; a server that requires a client "
            "certificate needs cert_file and key_file.",
        )
    return _explain_no_connection(error)


def _explain_no_connection(error: Exception) -> CheckResult:
    os_error = getattr(error, "os_error", None)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return CheckResult(
            PROBLEM, "Its host name has no address.", "Correct the host in its url, or the DNS."
        )
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "it is not trusted"
        return CheckResult(
            PROBLEM,
            f"Its certificate is rejected: {reason}.",
            "Install a certificate for the host of its url, or name its authority in ca_file.",
        )
    if isinstance(os_error, AddressRejected):
        return CheckResult(PROBLEM, f"Its address is rejected: {os_error}.", "Correct its url, or the DNS.")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return CheckResult(
            PROBLEM,
            "TLS fails with it.",
            "Check that its url begins with https:// and names a port with TLS.",
        )
    if isinstance(error, TimeoutError):
        return CheckResult(
            PROBLEM, "No connection comes about in time.", "Check firewalls and network policies on the way."
        )
    reason = getattr(os_error, "strerror", None) or "no connection comes about"
    return CheckResult(PROBLEM, f"It cannot be reached: {reason}.", "Start the backend, or correct its url.")


def explain_answer(answer: Answer, seconds: float, webhook: Webhook) -> CheckResult:
    """Return what is wrong with an answer that took so many seconds."""
    status = answer.status
    if not 200 <= status < 300:
        return CheckResult(PROBLEM, f"It answered with status {status}.", _remedy(status))
    try:
        parse_answer(answer.body)
    except ClientEventRejected as error:
        reason = "; ".join(getattr(error, "__notes__", [error.message]))
        return CheckResult(
            PROBLEM,
            f"It answered with status {status} and a body of a wrong form: {reason}.",
            "Answer with 204, or with a JSON object as docs/reference/webhooks.md describes it.",
        )
    if seconds > webhook.timeout_seconds / 2:
        return CheckResult(
            WARNING,
            f"It answered after {seconds:.1f} of {webhook.timeout_seconds:g} seconds.",
            "Answer sooner and do the work later, or raise timeout_seconds.",
        )
    return CheckResult(OK, f"It answered with status {status} after {seconds * 1000:.0f} ms.")


def _remedy(status: int) -> str:
    if status in {401, 403}:
        return (
            "It probably rejects the signature: compare the secrets on both sides and the clocks, and verify the bytes "
            "of the body before a parser changes them."
        )
    if 300 <= status < 400:
        return "Redirects are not followed: set url to where it redirects to."
    if status in {404, 405, 410}:
        return "Correct the path in its url, and accept POST there."
    if status in {429, 503}:
        return "The backend is overloaded or not ready."
    if status >= 500:
        return "Look at the log of the backend."
    return f"Answer {TEST_EVENT} with 204."
