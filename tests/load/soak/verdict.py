"""Compare deliveries with accepted pushes (invariants 4 to 6 of docs/explanation/architecture.md). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.load.soak.clients import Told
from tests.support.traffic import Push

GREETING = -1


@dataclass
class Verdict:
    """Counts, and a sentence about each error. Volatile pushes are due to no client and are counted only where they
    were delivered twice or out of order."""

    pushes: int = 0
    accepted: int = 0
    repeated: int = 0
    """Pushes that were accepted only after a repeat."""
    volatile: int = 0
    due: int = 0
    came: int = 0
    """Due deliveries that happened, each counted once."""
    doubled: int = 0
    misled: int = 0
    """Delivered to a client that it was not for, or never accepted."""
    out_of_order: int = 0
    reconnects: int = 0
    recovered: int = 0
    silently_anew: int = 0
    """Reconnects without ``socket.recovered`` and without ``recovery:failed``."""
    failed: Counter[str] = field(default_factory=Counter)
    away: list[float] = field(default_factory=list)
    """For how many seconds clients had no connection."""
    left: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int:
        return self.due - self.came

    @property
    def percent(self) -> float:
        """Percent of due deliveries that happened."""
        return 100.0 * self.came / self.due if self.due else 0.0

    @property
    def median_away(self) -> float:
        return median(self.away) if self.away else 0.0


def judge(pushes: Sequence[Push], told: Mapping[str, Told]) -> Verdict:
    """Compare what clients got with what was accepted.

    Every client was connected, or about to reconnect, from before the first push until after the last.
    """
    verdict = Verdict(
        pushes=len(pushes),
        accepted=sum(push.accepted for push in pushes),
        repeated=sum(len(push.answers) > 1 for push in pushes),
        volatile=sum(map(_is_volatile, pushes)),
    )
    verdict.wrong += [
        f"{push.number} was answered {push.answers}, and never accepted"
        for push in pushes
        if not push.accepted
    ]
    by_number = {push.number: push for push in pushes}
    due: dict[str, set[int]] = {client: set() for client in told}
    for push in pushes:
        if push.accepted and not _is_volatile(push):
            for client in push.entitled:
                due[client].add(push.number)
    for client, at_client in told.items():
        _count(verdict, client, by_number, due[client], at_client)
        _follow(verdict, client, by_number, at_client)
        _look_at_connects(verdict, client, at_client)
    return verdict


def _count(verdict: Verdict, client: str, pushes: Mapping[int, Push], due: set[int], told: Told) -> None:
    times = Counter(number for number, _ in told.got if number in pushes)
    verdict.due += len(due)
    verdict.came += sum(number in times for number in due)
    verdict.wrong += [f"{client} misses {_what(pushes[number])}" for number in sorted(due - times.keys())]
    for number, count in times.items():
        push = pushes[number]
        if count > 1:
            verdict.doubled += count - 1
            verdict.wrong.append(f"{client} got {count} times {_what(push)}")
        if not push.accepted or client not in push.entitled:
            verdict.misled += 1
            verdict.wrong.append(f"{client} got what was not for it: {_what(push)}")


def _follow(verdict: Verdict, client: str, pushes: Mapping[int, Push], told: Told) -> None:
    """Count what is out of order.

    No message may follow one whose push began only when its own had been answered. Positions, which order all messages,
    never go backwards. A volatile message repeats the position of the one before.
    """
    latest: Push | None = None
    newest: tuple[int, ...] = ()
    for number, position in told.got:
        push = pushes.get(number)
        if push is not None:
            is_late = latest is not None and push.answered_at < latest.started_at
            if latest is None or push.started_at > latest.started_at:
                latest = push
        else:
            is_late = False
        if position is not None:
            order = tuple(map(int, position.split("-")))
            repeats = push is None or _is_volatile(push)
            is_late |= order < newest or (order == newest and not repeats)
            newest = max(newest, order)
        if is_late:
            verdict.out_of_order += 1
            what = "an event of the gateway" if push is None else _what(push)
            verdict.wrong.append(f"{client} got too late, at position {position}: {what}")


def _look_at_connects(verdict: Verdict, client: str, told: Told) -> None:
    again = told.connects[1:]
    recovered = sum(was_recovered for _, was_recovered, _ in again)
    verdict.reconnects += len(again)
    verdict.recovered += recovered
    verdict.failed.update(told.failed)
    verdict.wrong += [f"{client} got recovery:failed {code}" for code in told.failed]
    anew = max(0, len(again) - recovered - len(told.failed))
    verdict.silently_anew += anew
    if anew:
        verdict.wrong.append(
            f"{client} reconnected {anew} times without being recovered and without recovery:failed"
        )
    verdict.away += [away for _, _, away in again]
    for name in ("left", "errors", "dropped"):
        getattr(verdict, name).update(getattr(told, name))


def _is_volatile(push: Push) -> bool:
    return push.body.get("volatile") is True


def _what(push: Push) -> str:
    kind = {name: value for name, value in push.body.items() if name not in {"event", "data"}}
    return f"{push.number} ({push.target} {kind}), which was answered {push.answers}"


def per_second(told: Iterable[Told], *, since: float, seconds: int) -> list[int]:
    """Return the number of reconnects in each second after ``since`` (Unix seconds)."""
    counts = Counter(int(at - since) for each in told for at, _, _ in each.connects[1:] if at >= since)
    return [counts[second] for second in range(seconds)]
