"""Answers that are not read take a bounded amount of memory, and clients that read are served meanwhile."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator

import pytest

from tests.load.attacks.measures import MIB, Attack, peak_rss_bytes, push_latency, rss_bytes, under_attack
from tests.load.attacks.unread_answers import FILE, leave_files_unread, leave_polls_unread
from tests.support.gateway_process import GatewayProcess
from tests.support.metrics import read_metrics
from tests.support.waiter import TIMEOUT_SECONDS, wait_until

pytestmark = pytest.mark.timeout(120)

ANSWER_SECONDS = 10.0
"""The default of REQUEST_TIMEOUT_SECONDS, within which a client has to read."""
SPARE_SECONDS = 4.0


@pytest.fixture
def gateway() -> Iterator[GatewayProcess]:
    process = GatewayProcess()
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def fetch(gateway: GatewayProcess, path: str) -> bytes:
    with urllib.request.urlopen(f"{gateway.url}{path}", timeout=TIMEOUT_SECONDS) as answer:
        return bytes(answer.read())


def aborted(gateway: GatewayProcess, reason: str) -> float:
    name = f'sio_gateway_http_connections_aborted_total{{reason="{reason}"}}'
    lines = read_metrics(gateway.url).splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith(name)), 0.0)


@pytest.mark.parametrize(
    ("attack", "growth"),
    [(leave_files_unread, 48 * MIB), (leave_polls_unread, 320 * MIB)],
    ids=["files of the browser client", "messages of polls"],
)
async def test_unread_answers_are_bounded_and_given_up(
    gateway: GatewayProcess, attack: Attack, growth: int
) -> None:
    expected = await asyncio.to_thread(fetch, gateway, FILE)
    await push_latency(gateway, seconds=1.0)
    before = rss_bytes(gateway.pid)

    async with under_attack(attack, gateway):
        await asyncio.sleep(ANSWER_SECONDS + SPARE_SECONDS)

        assert await asyncio.to_thread(fetch, gateway, FILE) == expected
        assert peak_rss_bytes(gateway.pid) - before < growth
        await asyncio.to_thread(
            wait_until, lambda: aborted(gateway, "answer_timeout") > 0, "an answer was given up"
        )
        assert (await push_latency(gateway, seconds=1.0)).statuses.keys() == {200}
