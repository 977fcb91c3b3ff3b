"""Backends that fail for ten seconds in every way, and one that rejects one event of a thousand."""

from __future__ import annotations

import pytest

from tests.load.notify.outages import OUTAGES, Outage, cause_all, early_tries
from tests.load.notify.receiver import ReceiverProcess, Try
from tests.load.notify.senders import Senders
from tests.load.notify.stage import CATALOGUE, compare, configured, dead_letters
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import shared_server
from tests.support.waiter import wait_until

pytestmark = pytest.mark.timeout(420)

OUTAGE_SECONDS = 10.0
USERS, EACH, POISONED = 20, 50, 25


def test_nothing_is_lost_or_reordered_while_backends_fail() -> None:
    results = cause_all(seconds=OUTAGE_SECONDS)

    assert [each.outage for each in results] == list(OUTAGES)
    for each in results:
        assert each.comparison.wrong[:12] == [], each.outage.name
        assert each.comparison.acknowledged == each.comparison.arrived > 0
        assert each.early == [], each.outage.name


@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("state", ["memory", "redis"])
def test_rejected_notification_is_a_dead_letter_and_the_others_arrive_in_order(
    batch: int, state: str
) -> None:
    url = shared_server().url if state == "redis" else None
    with (
        ReceiverProcess() as receiver,
        configured([{"id": "app", "url": receiver.url, "batch": batch}], CATALOGUE) as settings,
        Senders() as senders,
    ):
        gateway = GatewayProcess(redis_url=url, redis_prefix=f"poison{batch}", **settings)
        try:
            senders.connect([gateway], USERS, "save")
            senders.start(EACH, per_second=1_000, poison=POISONED)
            senders.finish(seconds=120)
            wait_until(lambda: receiver.counts()[1] == USERS * EACH - 1, "the others arrive")
            wait_until(lambda: len(dead_letters(gateway, "app")) == 1, "one is a dead letter")
            found = compare(
                receiver.received(), dict.fromkeys(_users(), EACH), rejected={(_users()[0], POISONED)}
            )
            assert (found.wrong, receiver.wrong()) == ([], [])

            [letter] = dead_letters(gateway, "app")
            assert (letter["user"], letter["reason"], letter["status"]) == ("u0", "rejected", 422)
            receiver.accept_poison()
            assert gateway.backend.post("/webhooks/app/replay", {"ids": [letter["id"]]}).status == 200
            wait_until(lambda: receiver.counts()[1] == USERS * EACH, "the replayed one arrives")
            assert receiver.received()[-1].id == letter["id"]
            assert dead_letters(gateway, "app") == []
            assert (gateway.stop(), gateway.failures()) == (0, [])
        finally:
            gateway.kill()


def test_try_before_its_time_is_found() -> None:
    limited = Outage("status-429", 429, {"Retry-After": "4"})

    assert early_tries(limited, [Try("a", 0.0), Try("b", 1.0), Try("a", 4.0), Try("a", 8.2)]) == []
    [sentence] = early_tries(limited, [Try("a", 0.0), Try("a", 3.5)])
    assert sentence == "status-429: 3.50 s after failure 1, at least 3.90 s"
    assert early_tries(Outage("broken", 500), [Try("a", 0.0), Try("a", 0.9), Try("a", 2.2)]) != []


def _users() -> list[str]:
    return [f"u{number}" for number in range(USERS)]
