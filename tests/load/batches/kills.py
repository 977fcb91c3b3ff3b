"""Kill a replica or Redis (``kill -9``) while it accepts a batch, and repeat the batch with its idempotency key.

After each kill the log of Redis has all messages of the batch or none. After the repeat it has all of them, each once,
and the repeat got the first results if the log had them. A client has received all batches, in order and each once.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from tests.support.backend import Answer
from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until

MESSAGES: Final = 60
LATEST_SECONDS: Final = 0.012
"""The latest time of a kill after the request began: most batches are accepted by then."""
REPEAT_SECONDS: Final = 60.0
LEASE_SECONDS: Final = 5
PREFIX: Final = "kills"
OK: Final = 200
PART: Final = "part"


@dataclass
class Findings:
    """What a run found: of the batches at a kill, how many were whole in the log, and how many not there at all."""

    batches: int = 0
    whole: int = 0
    absent: int = 0
    answered: int = 0
    """Batches whose first request was answered with 200."""
    replayed: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Setup:
    """Redis, the replica that is killed, and the other one, which has the client."""

    server: RedisServer
    victim: GatewayProcess
    other: GatewayProcess


def run(rounds: int, seed: int) -> Findings:
    """Kill a replica and Redis in turn, ``rounds`` times in all."""
    chance, found = random.Random(seed), Findings()
    with ExitStack() as stack:
        server = RedisServer(appendonly="yes", appendfsync="always")
        stack.callback(server.stop)
        victim, other = (
            GatewayProcess(
                redis_url=server.url, redis_prefix=PREFIX, lease_seconds=LEASE_SECONDS, replica_id=name
            )
            for name in ("victim", "other")
        )
        stack.callback(victim.stop)
        stack.callback(other.stop)
        node = NodeClients()
        stack.callback(node.stop)
        client = node.open(other.url, token=other.token("ann"), transports=["websocket"]).connected()
        for number in range(rounds):
            _round(Setup(server, victim, other), number, chance.random() * LATEST_SECONDS, found)
        _compare(client, found)
    return found


def _round(setup: Setup, number: int, delay_seconds: float, found: Findings) -> None:
    """Send a batch, kill a process after the delay, start it again and send the batch again."""
    server, victim = setup.server, setup.victim
    kills_redis = number % 2 == 1
    before = _entries(server)
    request = _Request(victim, number)
    request.start()
    time.sleep(delay_seconds)
    if kills_redis:
        server.restart()
    else:
        victim.kill()
    request.join()
    if not kills_redis:
        victim.start()
    wait_until(lambda: _entries(server) >= 0, "Redis answers", seconds=REPEAT_SECONDS)
    accepted = _entries(server) - before
    repeat = _send_until_accepted(victim if kills_redis else setup.other, number)
    is_replayed = repeat.headers.get("idempotency-replayed") == "true"
    first = request.answer if request.answer is not None and request.answer.status == OK else None
    errors = {
        f"{accepted} of {MESSAGES} messages were accepted": accepted not in {0, MESSAGES},
        f"{_entries(server) - before} messages after the repeat": _entries(server) - before != MESSAGES,
        "the repeat did not get the first results": first is not None and repeat.body != first.body,
        f"replayed is {is_replayed} with {accepted} messages": is_replayed is not (accepted == MESSAGES),
        f"{len(repeat.body['results'])} results": len(repeat.body["results"]) != MESSAGES,
    }
    victims = "Redis" if kills_redis else "a replica"
    found.wrong += [f"batch {number}, {victims} killed: {text}" for text, is_so in errors.items() if is_so]
    found.batches += 1
    found.whole += accepted == MESSAGES
    found.absent += accepted == 0
    found.answered += first is not None
    found.replayed += is_replayed


class _Request(threading.Thread):
    """Sends a batch once; ``answer`` is None if the connection was lost."""

    def __init__(self, replica: GatewayProcess, number: int) -> None:
        super().__init__(daemon=True)
        self._replica, self._number = replica, number
        self.answer: Answer | None = None

    def run(self) -> None:
        try:
            self.answer = _send(self._replica, self._number)
        except (OSError, http.client.HTTPException):
            self.answer = None


def _send(replica: GatewayProcess, number: int) -> Answer:
    messages: list[dict[str, Any]] = [
        {"to": {"user": "ann"}, "event": PART, "data": [number, index]} for index in range(MESSAGES)
    ]
    return replica.backend.post("/batch", {"messages": messages}, idempotency_key=f"batch-{number}")


def _send_until_accepted(replica: GatewayProcess, number: int) -> Answer:
    deadline = time.monotonic() + REPEAT_SECONDS
    while True:
        answer = _send(replica, number)
        if answer.status == OK:
            return answer
        assert answer.status in {409, 503}, answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)


def _entries(server: RedisServer) -> int:
    """Return how many entries the log ever had (lua/common.lua); -1 while Redis does not answer."""
    try:
        head = server.execute("GET", f"{PREFIX}:head")
    except redis.RedisError:  # it starts, or loads its file
        return -1
    return int(head.split()[4])


def _compare(client: StockClient, found: Findings) -> None:
    """Wait until the client has every message, and look for doubled ones and another order."""
    expected = [[number, index] for number in range(found.batches) for index in range(MESSAGES)]
    wait_until(
        lambda: len(client.events(PART)) >= len(expected),
        "the client has every message",
        seconds=REPEAT_SECONDS,
    )
    received = [args[0] for args in client.events(PART)]
    if received != expected:
        found.wrong.append(
            f"the client received {len(received)} messages for {len(expected)}, or in another order"
        )
    if client.events("recovery:failed"):
        found.wrong.append(f"the client could not recover: {client.events('recovery:failed')}")
