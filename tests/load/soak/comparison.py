"""Compare deliveries with accepted pushes (invariants 4 to 6 of docs/explanation/architecture.md). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.load.soak.clients import NOT_RECOVERED, RECOVERY_FAILED, ClientResult
from tests.support.traffic import UNKNOWN, Push


@dataclass
class Comparison:
    """Counts, and in ``wrong`` a sentence about each error.

    Volatile pushes are due to no client; they are counted only where they were delivered twice or out of order.
    """

    pushes: int = 0
    accepted: int = 0
    repeated: int = 0
    """Pushes that were accepted only after a repeat."""
    volatile: int = 0
    due: int = 0
    delivered: int = 0
    """Due deliveries that happened, each counted once."""
    doubled: int = 0
    misdelivered: int = 0
    """Delivered to a client that it was not addressed to, or never accepted."""
    out_of_order: int = 0
    reconnects: int = 0
    recovered: int = 0
    unexplained: int = 0
    """Reconnects without ``socket.recovered`` and without ``recovery:failed``."""
    failed: Counter[str] = field(default_factory=Counter)
    offline: list[float] = field(default_factory=list)
    """Seconds without a connection before each reconnect."""
    disconnects: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    unreported: int = 0
    """Missing deliveries to clients that got no ``recovery:failed`` after the push began."""

    @property
    def missing(self) -> int:
        return self.due - self.delivered

    @property
    def percent(self) -> float:
        """Percent of due deliveries that happened."""
        return 100.0 * self.delivered / self.due if self.due else 0.0

    @property
    def median_offline(self) -> float:
        return median(self.offline) if self.offline else 0.0


def compare(
    pushes: Sequence[Push],
    results: Mapping[str, ClientResult],
    *,
    lossy: bool = False,
    rejected: Collection[str] = (),
) -> Comparison:
    """Compare the deliveries to clients with the accepted pushes.

    Every client was connected, or about to reconnect, from before the first push until after the last. With ``lossy``
    a client may miss messages that were pushed before it got ``recovery:failed``. ``rejected`` are the last answers
    of pushes that need not have been accepted.
    """
    comparison = Comparison(
        pushes=len(pushes),
        accepted=sum(push.accepted for push in pushes),
        repeated=sum(len(push.answers) > 1 for push in pushes),
        volatile=sum(map(_is_volatile, pushes)),
    )
    comparison.wrong += [
        f"{push.number} was answered {push.answers}, and never accepted"
        for push in pushes
        if not push.accepted and push.answers[-1] not in rejected
    ]
    by_number = {push.number: push for push in pushes}
    due: dict[str, set[int]] = {client: set() for client in results}
    for push in pushes:
        if push.accepted and not _is_volatile(push):
            for client in push.entitled:
                due[client].add(push.number)
    for client, result in results.items():
        _count_deliveries(comparison, client, by_number, due[client], result)
        _count_missing(comparison, client, [by_number[n] for n in due[client]], result, lossy=lossy)
        _check_order(comparison, client, by_number, result, lossy=lossy)
        _count_reconnects(comparison, client, result, lossy=lossy)
    return comparison


def _count_deliveries(
    comparison: Comparison, client: str, pushes: Mapping[int, Push], due: set[int], result: ClientResult
) -> None:
    times = Counter(number for number, _ in result.got if number in pushes)
    comparison.due += len(due)
    comparison.delivered += sum(number in times for number in due)
    for number, count in times.items():
        push = pushes[number]
        if count > 1:
            comparison.doubled += count - 1
            comparison.wrong.append(f"{client} got {count} times {_what(push)}")
        may_have_been_stored = push.accepted or not UNKNOWN.isdisjoint(push.answers)
        if not may_have_been_stored or client not in push.entitled:
            comparison.misdelivered += 1
            comparison.wrong.append(f"{client} got what was not for it: {_what(push)}")


def _count_missing(
    comparison: Comparison, client: str, due: Sequence[Push], result: ClientResult, *, lossy: bool
) -> None:
    got = {number for number, _ in result.got}
    for push in due:
        if push.number in got:
            continue
        # A push was stored at some moment between its start and its answer.
        is_reported = any(push.started_at <= at for at in result.failed_at)
        comparison.unreported += not is_reported
        if not (lossy and is_reported):
            comparison.wrong.append(f"{client} misses {_what(push)}")


def _check_order(
    comparison: Comparison, client: str, pushes: Mapping[int, Push], result: ClientResult, *, lossy: bool
) -> None:
    """Count messages that are out of order; with ``lossy`` only those without a ``recovery:failed`` after them.

    No message may follow one whose push began only after its own had been answered. Positions, which order all
    messages, never go backwards until a client connects without being recovered. A volatile message repeats the
    position of the one before.
    """
    latest: Push | None = None
    newest: tuple[int, ...] = ()
    found: list[str] = []
    for number, position in result.got:
        if number == NOT_RECOVERED:
            newest = ()
            continue
        if number == RECOVERY_FAILED and lossy:
            found.clear()
            continue
        push = pushes.get(number)
        if push is not None:
            is_out_of_order = latest is not None and push.answered_at < latest.started_at
            if latest is None or push.started_at > latest.started_at:
                latest = push
        else:
            is_out_of_order = False
        if position is not None:
            order = tuple(map(int, position.split("-")))
            repeats = push is None or _is_volatile(push)
            is_out_of_order |= order < newest or (order == newest and not repeats)
            newest = max(newest, order)
        if is_out_of_order:
            what = "an event of the gateway" if push is None else _what(push)
            found.append(f"{client} got too late, at position {position}: {what}")
    comparison.out_of_order += len(found)
    comparison.wrong += found


def _count_reconnects(comparison: Comparison, client: str, result: ClientResult, *, lossy: bool) -> None:
    reconnects = result.connects[1:]
    recovered = sum(was_recovered for _, was_recovered, _ in reconnects)
    comparison.reconnects += len(reconnects)
    comparison.recovered += recovered
    comparison.failed.update(result.failed)
    if not lossy:
        comparison.wrong += [f"{client} got recovery:failed {code}" for code in result.failed]
    unexplained = max(0, len(reconnects) - recovered - len(result.failed))
    comparison.unexplained += unexplained
    if unexplained:
        comparison.wrong.append(
            f"{client} reconnected {unexplained} times without being recovered and without recovery:failed"
        )
    comparison.offline += [seconds for _, _, seconds in reconnects]
    for name in ("disconnects", "errors", "dropped"):
        getattr(comparison, name).update(getattr(result, name))


def _is_volatile(push: Push) -> bool:
    return push.body.get("volatile") is True


def _what(push: Push) -> str:
    kind = {name: value for name, value in push.body.items() if name not in {"event", "data"}}
    return f"{push.number} ({push.target} {kind}), which was answered {push.answers}"


def per_second(results: Iterable[ClientResult], *, since: float, seconds: int) -> list[int]:
    """Return the number of reconnects in each second after ``since`` (Unix seconds)."""
    counts = Counter(int(at - since) for each in results for at, _, _ in each.connects[1:] if at >= since)
    return [counts[second] for second in range(seconds)]
