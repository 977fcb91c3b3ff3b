"""One gateway whose backends fail at the same time, each in another way, while clients send notifications to all."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from tests.load.notify.receiver import Failure, Received, ReceiverProcess, Try
from tests.load.notify.senders import Senders
from tests.load.notify.stage import Comparison, compare, configured, dead_letters
from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import wait_until

USERS: Final = 8
"""For each webhook."""
BEFORE, MEANWHILE, AFTER = 3, 20, 3
"""Notifications of each user."""
PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""The seconds between tries, each 20 % more or less; the last one is repeated."""
SPREAD, SLACK_SECONDS = 0.2, 0.1
RETRY_AFTER_SECONDS: Final = 4
DELIVERY_SECONDS: Final = 15.0


@dataclass(frozen=True)
class Outage:
    """How a backend fails. ``name`` is also the id of its webhook."""

    name: str
    how: Failure | int
    headers: Mapping[str, str] = field(default_factory=dict)

    def shortest_pause(self, failures: int) -> float:
        """Return the seconds that pass at least between the failure with this number and the next try."""
        if "Retry-After" in self.headers:
            return float(self.headers["Retry-After"]) - SLACK_SECONDS
        pause = PAUSES[min(failures, len(PAUSES)) - 1] * (1 - SPREAD)
        if self.how is Failure.HANG:
            pause += DELIVERY_SECONDS
        return pause - SLACK_SECONDS


OUTAGES: Final = (
    Outage("down", Failure.DOWN),
    Outage("hanging", Failure.HANG),
    Outage("closing", Failure.CLOSE),
    Outage("status-401", 401),
    Outage("status-404", 404),
    Outage("status-410", 410),
    Outage("status-429", 429, {"Retry-After": str(RETRY_AFTER_SECONDS)}),
    Outage("status-500", 500),
)


@dataclass
class Result:
    """What became of the notifications to one webhook. ``early``: those that arrived during the outage."""

    outage: Outage
    comparison: Comparison
    early: list[Received]
    tries: list[Try]


def cause_all(*, seconds: float, redis_url: str | None = None) -> list[Result]:
    """Let all backends fail for some seconds while events are sent to each; return what became of them."""
    with ExitStack() as stack:
        receivers = {each.name: stack.enter_context(ReceiverProcess()) for each in OUTAGES}
        webhooks = [{"id": name, "url": receiver.url} for name, receiver in receivers.items()]
        settings = stack.enter_context(configured(webhooks, _catalogue()))
        gateway = GatewayProcess(redis_url=redis_url, **settings)
        stack.callback(gateway.kill)
        senders = stack.enter_context(Senders())
        senders.connect([gateway], USERS, *(f"save {each.name}" for each in OUTAGES))
        _send(senders, BEFORE, seconds=2.0)
        _wait_until_arrived(receivers, BEFORE)

        for outage in OUTAGES:
            receivers[outage.name].fail(outage.how, **outage.headers)
        _send(senders, MEANWHILE, seconds=seconds * 0.8)
        threading.Event().wait(seconds * 0.2)  # the outage has a length, which is not a wait for something
        early = {name: receiver.received(after=BEFORE * USERS) for name, receiver in receivers.items()}
        tries = {name: receiver.failed_tries() for name, receiver in receivers.items()}
        for receiver in receivers.values():
            receiver.accept()

        _send(senders, AFTER, seconds=2.0)
        _wait_until_arrived(receivers, BEFORE + MEANWHILE + AFTER)
        results = []
        for outage in OUTAGES:
            receiver = receivers[outage.name]
            users = {
                user: BEFORE + MEANWHILE + AFTER
                for user, event in senders.users
                if event.endswith(outage.name)
            }
            received = receiver.received()
            found = compare(received, users)
            found.wrong += receiver.wrong()
            found.wrong += [f"a dead letter: {each}" for each in dead_letters(gateway, outage.name)]
            found.wrong += early_tries(outage, tries[outage.name])
            results.append(Result(outage, found, early[outage.name], tries[outage.name]))
        status = gateway.stop()
        assert (status, gateway.failures()) == (0, [])
    return results


def early_tries(outage: Outage, tries: Sequence[Try]) -> list[str]:
    """Return a sentence for each try of an event that came sooner after the failure before than it may."""
    by_id: dict[str, list[float]] = defaultdict(list)
    for each in tries:
        by_id[each.id].append(each.at)
    return [
        f"{outage.name}: {later - earlier:.2f} s after failure {number}, at least {pause:.2f} s"
        for times in by_id.values()
        for number, (earlier, later) in enumerate(pairwise(times), 1)
        if later - earlier < (pause := outage.shortest_pause(number))
    ]


def _send(senders: Senders, each: int, *, seconds: float) -> None:
    senders.start(each, per_second=each * USERS * len(OUTAGES) / seconds)
    senders.finish(seconds=seconds + 60.0)


def _wait_until_arrived(receivers: Mapping[str, ReceiverProcess], each: int) -> None:
    for name, receiver in receivers.items():
        wait_until(
            lambda receiver=receiver: receiver.counts()[1] >= each * USERS,  # type: ignore[misc]
            f"{each * USERS} notifications arrive at {name}",
            seconds=PAUSES[-1] * (1 + SPREAD) + DELIVERY_SECONDS + 30.0,
        )


def _catalogue() -> str:
    events = "".join(
        f'      "save {each.name}": {{args: [{{type: object}}], dedupe: $0.id, notify: {each.name}}}\n'
        for each in OUTAGES
    )
    return f"version: 1\nnamespaces:\n  /:\n    client_events:\n{events}"
