"""Compare what clients received with what backends were answered (the delivery guarantees). Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from tests.support.listeners import Member, Received
from tests.support.traffic import Push

CERTAINLY_NOT = frozenset({"broker_unavailable", "freshness_unknown"})
"""Answers after which a push was not published.

`freshness_unknown`: Redis lost its nonces, so it rejects requests that were signed before it started empty.
"""


def delivery_errors(
    pushes: Collection[Push],
    received: Mapping[str, Received],
    members: Iterable[Member],
    *,
    lost: tuple[float, float] | None = None,
) -> list[str]:
    """Return one sentence for each wrong delivery.

    ``lost`` is the interval (monotonic seconds) in which Redis lost its data. A push accepted in it may be missing at a
    client that got ``recovery:failed``. A push with an unknown outcome may arrive once more after its repetition.
    """
    wrong = [
        f"{push.number} was answered {push.answers}, an answer that no fault explains"
        for push in pushes
        if not push.accepted and push.answers[-1] not in CERTAINLY_NOT
    ]
    by_number = {push.number: push for push in pushes}
    for member in members:
        at_member = received[member.client.id]
        found = [*_counts(pushes, at_member, member, lost), *_order(by_number, at_member)]
        if "data_lost" not in at_member.gaps or lost is None:
            found += [f"received recovery:failed: {code}" for code in at_member.gaps]
        wrong += [f"{member.client.id} at {member.replica.replica_id}: {sentence}" for sentence in found]
    return wrong


def _counts(
    pushes: Collection[Push], received: Received, member: Member, lost: tuple[float, float] | None
) -> Iterable[str]:
    times = Counter(received.news)
    for push in pushes:
        due = int(push.accepted and member.client.id in push.entitled)
        came = times[push.number]
        if came == due or (lost is not None and due and _is_excused(push, came, received, lost)):
            continue
        yield f"{push.number} ({push.target}) arrived {came} times, expected {due}; its answers: {push.answers}"


def _is_excused(push: Push, came: int, received: Received, lost: tuple[float, float]) -> bool:
    if push.started_at > lost[1] or push.answered_at < lost[0]:
        return False
    if came == 0:
        return "data_lost" in received.gaps
    return came == 2 and len(push.answers) > 1


def _order(pushes: Mapping[int, Push], received: Received) -> Iterable[str]:
    """Check that no message arrives after one whose push started after the answer to its own."""
    latest: Push | None = None
    for number in dict.fromkeys(received.news):
        push = pushes[number]
        if latest is not None and push.answered_at < latest.started_at:
            yield f"{number} arrived after {latest.number}, which was pushed later"
        if latest is None or push.started_at > latest.started_at:
            latest = push
