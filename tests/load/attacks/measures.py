"""Memory, CPU time and push latency of a running gateway."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from tests.support.backend import Backend
from tests.support.gateway_process import GatewayProcess
from tests.support.metrics import read_metrics
from tests.support.waiter import await_until

Attack = Callable[[GatewayProcess, asyncio.Event], Coroutine[Any, Any, None]]
"""The function ``attack`` of a module of this package."""

MIB = 1024 * 1024
PUSH_INTERVAL_SECONDS = 0.01
ANSWER_SECONDS = 10.0
REFERENCE_SECONDS = 0.004
"""The CPU time of ``_work`` on the machine on which the bounds of CPU time were found."""
NO_ANSWER = 0
"""Counted instead of a status: the connection failed or the answer took longer than ANSWER_SECONDS."""


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return _memory(pid, "VmRSS")


def peak_rss_bytes(pid: int) -> int:
    """Return the largest resident memory that a process had since it started."""
    return _memory(pid, "VmHWM")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process that still run."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def open_files(pid: int) -> int:
    """Return the number of open files of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def metric(gateway: GatewayProcess, sample: str) -> float:
    """Return the value of a sample of /metrics: a name without its prefix, with its labels; 0 if there is none."""
    beginning = f"sio_gateway_{sample} "
    lines = read_metrics(gateway.ingest_url).splitlines()
    return sum(float(line.removeprefix(beginning)) for line in lines if line.startswith(beginning))


def _memory(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has ended")


@dataclass(frozen=True)
class PushLatency:
    """The durations of pushes in seconds, and how many had each status."""

    median: float
    p99: float
    longest: float
    statuses: Counter[int]


async def push_latency(
    gateway: GatewayProcess,
    *,
    seconds: float = 3.0,
    user: str = "latency",
    replica_url: str = "",
    under: Sequence[str] = (),
) -> PushLatency:
    """Push to a user over one signed keep-alive connection, and measure each answer.

    A process of its own pushes, so what runs on the event loop of the caller delays no measurement. ``under`` is a
    command that starts it.
    """
    url = replica_url or gateway.ingest_url
    process = await asyncio.create_subprocess_exec(
        *under,
        sys.executable,
        "-m",
        __spec__.name,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    order = {"url": url, "key_id": gateway.key_id, "secret": gateway.secret, "seconds": seconds, "user": user}
    printed, _ = await process.communicate(json.dumps(order).encode())
    assert process.returncode == 0, printed
    samples = [(float(took), int(status)) for took, status in json.loads(printed)]
    durations = [took for took, _ in samples]
    return PushLatency(
        median(durations),
        quantiles(durations, n=100, method="inclusive")[98],
        max(durations),
        Counter(status for _, status in samples),
    )


@asynccontextmanager
async def under_attack(attack: Attack, gateway: GatewayProcess) -> AsyncIterator[None]:
    """Run an attack while the context is open."""
    until = asyncio.Event()
    task = asyncio.create_task(attack(gateway, until))
    try:
        yield
    finally:
        until.set()
        await task


async def cpu_share_under(
    attack: Attack, gateway: GatewayProcess, *, seconds: float, is_reached: Callable[[], bool]
) -> float:
    """Return the share of a core that a gateway takes under an attack, as it would be on the reference machine.

    The attack lasts for some seconds, and until something is reached.
    """
    async with under_attack(attack, gateway):
        before, began = cpu_seconds(gateway.pid), time.monotonic()
        await asyncio.sleep(seconds)
        await await_until(is_reached, "the attack is under way", pause_seconds=0.5)
        share = (cpu_seconds(gateway.pid) - before) / (time.monotonic() - began)
    return share / slowness()


def slowness() -> float:
    """Return how many times longer a piece of work takes here and now than on the machine of the bounds; 1 at least.

    It is measured in CPU time: other programs take caches and the second thread of a core, too.
    """
    return max(1.0, median(_work() for _ in range(20)) / REFERENCE_SECONDS)


def _work() -> float:
    """Do what a gateway does most: JSON, digests, Python; return the CPU time."""
    data = [{"n": number, "text": "x" * 20} for number in range(50)]
    began = time.thread_time()
    for _ in range(50):
        text = json.dumps(json.loads(json.dumps(data)))
        hmac.digest(bytes(32), text.encode(), hashlib.sha256)
        sum(map(ord, text[:500]))
    return time.thread_time() - began


def _push(backend: Backend, user: str, seconds: float) -> list[tuple[float, int]]:
    address = urlsplit(backend.url)
    target, body = f"/emit/user/{user}", json.dumps({"event": "latency", "data": {}}).encode()
    samples: list[tuple[float, int]] = []
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=ANSWER_SECONDS)
    until = time.monotonic() + seconds
    while len(samples) < 2 or time.monotonic() < until:
        headers = backend.sign("POST", target, body) | {"Content-Type": "application/json"}
        started = time.monotonic()
        try:
            connection.request("POST", target, body, headers)
            with connection.getresponse() as answer:
                answer.read()
                status = answer.status
        except (OSError, http.client.HTTPException):
            connection.close()
            status = NO_ANSWER
        samples.append((time.monotonic() - started, status))
        time.sleep(PUSH_INTERVAL_SECONDS)
    connection.close()
    return samples


if __name__ == "__main__":
    order = json.load(sys.stdin)
    json.dump(
        _push(Backend(order["url"], order["key_id"], order["secret"]), order["user"], order["seconds"]),
        sys.stdout,
    )
