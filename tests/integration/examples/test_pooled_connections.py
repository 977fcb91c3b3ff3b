"""Pooled HTTP clients that reuse a connection just when the gateway closes it: each push is answered and delivered.

A client that closes its idle connections within the announced time never meets the end of a connection. One that keeps
them longer does, and sends the push again by itself: that needs an Idempotency-Key. Both are tested around the limit.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.examples.languages import Language, build, node
from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess

pytestmark = [pytest.mark.examples, pytest.mark.timeout(300)]
HERE = Path(__file__).parent
WORKERS = 12
ANNOUNCED_MS, CLOSED_MS = 1_000, 2_000
"""KEEPALIVE_SECONDS, and when the gateway closes an idle connection."""
ATTEMPTS = 4
"""A client that a busy machine stops for more than a second uses a connection that the gateway has closed."""
JAVA_RETRIES = "-Djdk.httpclient.enableAllMethodRetry=true"
PROGRAMS = {
    "go": Language(("{out}/pooled",), "golang-go", ("go", "build", "-o", "{out}/pooled", str(HERE / "pooled.go"))),
    "node": Language((node(), str(HERE / "pooled.mjs")), "nodejs"),
    "java": Language(
        ("java", JAVA_RETRIES, "-Djdk.httpclient.keepalive.timeout={idle}", "-cp", "{out}", "Pooled"),
        "default-jdk-headless",
        ("javac", "-d", "{out}", str(HERE / "Pooled.java")),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    process = GatewayProcess(keepalive_seconds=ANNOUNCED_MS / 1_000)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


@dataclass(frozen=True)
class Case:
    """Pushes with pauses of about ``limit_ms``; the client closes connections that are idle for ``idle_ms``."""

    limit_ms: int
    idle_ms: int
    has_key: bool


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    "case",
    [Case(ANNOUNCED_MS, ANNOUNCED_MS - 100, False), Case(CLOSED_MS, 60_000, True)],
    ids=["closes first", "keeps longer and repeats"],
)
def test_each_push_at_the_limit_is_answered_and_delivered_once(
    gateway: GatewayProcess, node: NodeClients, tmp_path: Path, name: str, case: Case
) -> None:
    # Java counts whole seconds.
    idle_seconds = str(max(1, case.idle_ms // 1_000))
    command = [word.replace("{idle}", idle_seconds) for word in build(name, PROGRAMS[name], tmp_path)]
    command += [] if name == "java" else [str(case.idle_ms)]
    numbers = [f"{worker}-{number}" for worker in range(WORKERS) for number in range(6)]
    expected = {"200": len(numbers)}

    def push_all(attempt: int) -> tuple[StockClient, Counter[str]]:
        user = f"{name}-{case.limit_ms}-{attempt}"
        listener = node.open(gateway.url, token=gateway.token(user)).connected()
        return listener, answers_to(command, [push_line(gateway, user, number, case) for number in numbers])

    listener, answers = push_all(1)
    for attempt in range(2, 1 + (1 if case.has_key else ATTEMPTS)):
        if answers == expected:
            break
        listener.disconnect()
        listener, answers = push_all(attempt)

    assert answers == expected
    gateway.wait_until_delivered(listener)
    assert sorted(args[0] for args in listener.events("note")) == sorted(numbers)


def answers_to(command: list[str], lines: list[str]) -> Counter[str]:
    """Run a client; return how many pushes had each status."""
    done = subprocess.run(
        command, input="\n".join(lines), capture_output=True, text=True, timeout=200, check=True
    )
    return Counter(done.stdout.split("\n")[:-1])


def push_line(gateway: GatewayProcess, user: str, number: str, case: Case) -> str:
    target, body = f"/emit/user/{user}", json.dumps({"event": "note", "data": number})
    key = f"{user}-{number}" if case.has_key else ""
    headers = gateway.backend.sign("POST", target, body.encode(), idempotency_key=key)
    headers["Content-Type"] = "application/json"
    pause_ms = case.limit_ms + random.choice([-60, -5, -2, -1, 0, 0, 1, 2, 5, 60])  # no secret
    fields = [number.partition("-")[0], str(pause_ms), gateway.ingest_url + target, body]
    return "\t".join([*fields, *(f"{name}: {value}" for name, value in headers.items())])
