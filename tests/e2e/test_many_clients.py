"""Many backends push to many clients at once: every message arrives once and in order."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest

from tests.support.backend import Backend
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket

USERS, BACKENDS, PUSHES = 500, 8, 10_000
LAST = "last"


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    keys = ",".join(f"backend-{number}:{_secret(number)}" for number in [*range(BACKENDS), "last"])
    process = GatewayProcess(ingest_keys=keys, connect_rate=2_000)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def _secret(number: int | str) -> str:
    return f"the secret of backend number {number} of those eight"


class Pushed:
    """Times of one push: when it started and when it was answered, in seconds of the monotonic clock."""

    __slots__ = ("answered_at", "started_at")

    def __init__(self) -> None:
        self.started_at = time.monotonic()
        self.answered_at = float("inf")


async def push(http: aiohttp.ClientSession, backend: Backend, user: str, event: str, data: object) -> None:
    target, body = f"/emit/user/{user}", json.dumps({"event": event, "data": data}).encode()
    headers = backend.sign("POST", target, body) | {"Content-Type": "application/json"}
    async with http.post(f"{backend.url}{target}", data=body, headers=headers) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        assert '"connections":1' in text


async def receive(socket: RawSocket) -> list[tuple[int, int]]:
    """Receive until the last push; backend and number of each message."""
    arrived = []
    while (event := json.loads((await socket.frame())[2:]))[0] != LAST:
        arrived.append((event[1][0], event[1][1]))
    return arrived


async def test_10_000_pushes_of_8_backends_reach_500_clients_once_and_in_order(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    users = [f"user-{number}" for number in range(USERS)]

    async def connect(user: str) -> RawSocket:
        socket = await RawSocket.open(http, gateway.url)
        await socket.join(gateway.token(user))
        return socket

    sockets = [
        socket
        for start in range(0, USERS, 50)
        for socket in await asyncio.gather(*map(connect, users[start : start + 50]))
    ]
    receiving = [asyncio.create_task(receive(socket)) for socket in sockets]
    pushes: dict[tuple[int, int], Pushed] = {}

    async def push_one_after_the_other(number: int) -> None:
        backend = Backend(gateway.ingest_url, f"backend-{number}", _secret(number))
        for count, user in enumerate(
            itertools.islice(itertools.cycle(users), number * 61, number * 61 + PUSHES // BACKENDS)
        ):
            pushed = pushes[number, count] = Pushed()
            await push(http, backend, user, "note", [number, count])
            pushed.answered_at = time.monotonic()

    await asyncio.gather(*map(push_one_after_the_other, range(BACKENDS)))
    last = Backend(gateway.ingest_url, "backend-last", _secret("last"))
    await asyncio.gather(*[push(http, last, user, LAST, None) for user in users])
    arrived = await asyncio.gather(*receiving)

    counts = Counter(itertools.chain.from_iterable(arrived))
    assert len(counts) == PUSHES
    assert counts == Counter(pushes.keys())
    for keys in arrived:
        started_latest = 0.0
        for key in keys:
            # No message may arrive after one whose push started after the answer to its own.
            assert pushes[key].answered_at >= started_latest
            started_latest = max(started_latest, pushes[key].started_at)
    assert gateway.failures() == []
