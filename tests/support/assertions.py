"""What clients heard, held against what backends were answered (DESIGN, laws 4 to 6). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from tests.support.listeners import Heard, Member
from tests.support.traffic import Push

CERTAINLY_NOT = frozenset({"broker_unavailable", "timestamp_out_of_range"})
"""The second: the memory of which requests were used began after this one was signed, on a Redis that is empty."""


def judge(
    pushes: Collection[Push],
    heard: Mapping[str, Heard],
    members: Iterable[Member],
    *,
    lost: tuple[float, float] | None = None,
) -> list[str]:
    """Sentences about what is wrong. ``lost``: between these moments Redis lost its data. What was accepted then may be
    missing where the client was told, and what may have been accepted may come once more after its repeat.
    """
    wrong = [
        f"{push.number} was answered {push.answers}, which nothing here explains"
        for push in pushes
        if not push.accepted and push.answers[-1] not in CERTAINLY_NOT
    ]
    by_number = {push.number: push for push in pushes}
    for member in members:
        at_member = heard[member.client.id]
        found = [*_counts(pushes, at_member, member, lost), *_order(by_number, at_member)]
        if "data_lost" not in at_member.gaps or lost is None:
            found += [f"was told of a gap: {code}" for code in at_member.gaps]
        wrong += [f"{member.client.id} at {member.replica.replica_id}: {sentence}" for sentence in found]
    return wrong


def _counts(
    pushes: Collection[Push], heard: Heard, member: Member, lost: tuple[float, float] | None
) -> Iterable[str]:
    times = Counter(heard.news)
    for push in pushes:
        due = int(push.accepted and member.client.id in push.entitled)
        came = times[push.number]
        if came == due or (lost is not None and due and _is_excused(push, came, heard, lost)):
            continue
        yield f"{push.number} ({push.target}) came {came} times and not {due}; it was answered {push.answers}"


def _is_excused(push: Push, came: int, heard: Heard, lost: tuple[float, float]) -> bool:
    if push.started_at > lost[1] or push.answered_at < lost[0]:
        return False
    if came == 0:
        return "data_lost" in heard.gaps
    return came == 2 and len(push.answers) > 1


def _order(pushes: Mapping[int, Push], heard: Heard) -> Iterable[str]:
    """Nothing comes after a message whose push began only when its own had been answered."""
    latest: Push | None = None
    for number in dict.fromkeys(heard.news):
        push = pushes[number]
        if latest is not None and push.answered_at < latest.started_at:
            yield f"{number} came after {latest.number}, which was pushed later"
        if latest is None or push.started_at > latest.started_at:
            latest = push
