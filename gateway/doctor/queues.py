"""Checks of the queues of webhooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.doctor.facts import QueueFacts, RedisFacts, Requirements
from gateway.doctor.findings import Finding, ok, problem, size, unknown, warning
from gateway.domain.notifications import MAX_QUEUED, MAX_QUEUED_BYTES

OLD_SECONDS: Final = 300.0
"""The age at which the alert SioGatewayWebhookQueueOld fires, too."""
_FULL_FRACTION: Final = 0.8


def check_queues(redis: RedisFacts, requirements: Requirements) -> Iterator[Finding]:
    """Yield a finding for each configured webhook that is notified, or whose queue holds something."""
    for name in sorted(requirements.webhooks):
        facts = redis.queues.get(name)
        if facts is None:
            yield unknown(
                f"queue.{name}",
                "The queue of the webhook could not be read.",
                "Grant the commands that redis.rights names.",
            )
        elif name in requirements.notified or facts.entries or facts.dead_letters:
            yield _check(name, facts)


def _check(webhook: str, facts: QueueFacts) -> Finding:
    name = f"queue.{webhook}"
    waiting = f"Waiting notifications: {facts.entries} ({size(facts.bytes)})"
    if facts.entries >= MAX_QUEUED or facts.bytes >= MAX_QUEUED_BYTES:
        return problem(
            name,
            f"{waiting}, as many as the queue may hold: further ones are rejected.",
            f"Repair the webhook: `sio-gateway webhooks test {webhook}` reports what is wrong with it.",
        )
    if facts.entries and facts.age_seconds > OLD_SECONDS:
        return warning(
            name,
            f"{waiting}, the oldest for {facts.age_seconds:.0f} s.",
            f"Repair the webhook: `sio-gateway webhooks test {webhook}` reports what is wrong with it "
            "(docs/how-to/operate.md#notifications-wait).",
        )
    if max(facts.entries / MAX_QUEUED, facts.bytes / MAX_QUEUED_BYTES) > _FULL_FRACTION:
        return warning(
            name,
            f"{waiting}; at {MAX_QUEUED} or {size(MAX_QUEUED_BYTES)} further ones are rejected.",
            "Let the backend accept them faster: raise batch and partitions of the webhook.",
        )
    if facts.dead_letters:
        return warning(
            name,
            f"Dead letters: {facts.dead_letters}.",
            f"`sio-gateway webhooks dead {webhook}` lists them, and `replay` sends them again "
            "(docs/how-to/operate.md#dead-letters).",
        )
    return ok(name, f"{waiting}.")
