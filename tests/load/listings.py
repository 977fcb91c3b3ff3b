"""Walk lists of 100 000 rooms and 20 000 connections while connections come and go: ``python -m tests.load.listings``.

Two replicas in this process register the connections over one Redis; a gateway of its own serves the lists, so its loop
does nothing else. Three callers walk each list at once while connections come and go: prints whether each walk was
complete, the time of CPU of the gateway for a page, and how late its loop was. Then one caller walks the first hundred
pages of it five times without changes: prints the time of each page in Redis (SLOWLOG), where it was least, because
other work on the machine makes Redis wait. The loop of the gateway waits in the same way, and is no longer late than
its CPU for the pages of the three callers otherwise. Exit status 1 if a page took 2 ms of Redis, the gateway used 6 ms
for one, or a name is missing or comes twice. With a number, so many rooms of each connection alone; 49 make a million.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from gateway.domain.event_catalogue import Glob, RoomRule
from gateway.domain.listings import MemberRules
from gateway.domain.presence import PresentConnection
from gateway.domain.socket_data import MAX_DATA_BYTES, encode_data
from tests.integration.redis_state.replicas import PREFIX, Replica
from tests.support.gateway_process import GatewayProcess
from tests.support.metrics import read_metrics
from tests.support.redis_server import RedisServer

CONNECTIONS = 20_000
OWN_ROOMS = int(sys.argv[1]) if sys.argv[1:] else 4
"""Rooms of each connection alone. With those of the users there are 100 000."""
LARGE, LARGE_ROOMS = 1_000, 100
"""Connections of one user with 4 KiB of data and so many rooms."""
CALLERS, ROUNDS, PAGES = 3, 5, 100
RULES = MemberRules({"/": (RoomRule(Glob("all"), list_members=True), RoomRule(Glob("*")))})
CATALOGUE = 'version: 1\nnamespaces:\n  /:\n    rooms: [{match: "all", join: anyone, list_members: true}]\n'
_FIRST_ARGUMENTS = (b"rooms", b"users", b"user", b"room", b"/", b"/,all")
"""Of the scripts of lists, behind the deadline."""
REDIS_SECONDS, GATEWAY_SECONDS = 0.002, 0.006
"""Of one page. Three callers at once make the loop late by less than 20 ms."""


def main() -> None:
    """Run it and print the table."""
    server = RedisServer()
    try:
        asyncio.run(_run(server))
    finally:
        server.stop()


async def _run(server: RedisServer) -> None:
    replicas = [Replica(server, name, lease_seconds=15.0) for name in ("a", "b")]
    for replica in replicas:
        await replica.start()
        replica.state.listings.configure(RULES)
    began = time.perf_counter()
    await _register(replicas, range(CONNECTIONS))
    seconds = time.perf_counter() - began
    print(
        f"{CONNECTIONS} connections in {seconds:.1f} s, rooms: {_rooms(server)}, {_megabytes(server)} MB of Redis"
    )
    await _register_large(replicas)
    print(f"{LARGE} connections of one user with 4 KiB and {LARGE_ROOMS} rooms each")
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.yaml"
        events.write_text(CATALOGUE, "utf-8")
        gateway = GatewayProcess(
            redis_url=server.url, redis_prefix=PREFIX, replica_id="c", events_file=events
        )
        try:
            failed = await _walk_all(server, replicas, gateway)
        finally:
            gateway.stop()
    for replica in replicas:
        await replica.stop()
    sys.exit(1 if failed else 0)


async def _walk_all(server: RedisServer, replicas: list[Replica], gateway: GatewayProcess) -> bool:
    failed = False
    print(
        f"{'list':34}{'pages':>6}{'items':>8}{'complete':>9}{'CPU (ms)':>9}{'lag (ms)':>9}"
        f"{'Redis: median':>14}{'max (ms)':>9}"
    )
    for target, member, expected in (
        ("/rooms?limit=100", "rooms", CONNECTIONS * (OWN_ROOMS + 1) + 2 + LARGE_ROOMS),
        ("/rooms?limit=100&prefix=none", "rooms", 0),
        (
            "/rooms?limit=1&prefix=user%3A19",
            "rooms",
            sum(str(n).startswith("19") for n in range(CONNECTIONS)),
        ),
        (
            "/rooms?limit=100&prefix=user%3A1",
            "rooms",
            sum(str(n).startswith("1") for n in range(CONNECTIONS)),
        ),
        ("/users?limit=100", "users", CONNECTIONS + 1),
        ("/connections?room=all&limit=100", "connections", CONNECTIONS),
        ("/connections?user=large&limit=100", "connections", LARGE),
        ("/stats", "", 0),
        ("/rooms/all", "", 0),
    ):
        churn = asyncio.create_task(_churn(replicas))
        before = await asyncio.to_thread(_read_gateway, gateway)
        walks = await asyncio.gather(
            *(asyncio.to_thread(_walk, gateway, target, member) for _ in range(CALLERS))
        )
        after = await asyncio.to_thread(_read_gateway, gateway)
        churn.cancel()
        is_complete = all(
            not member or (len(names) == len(set(names)) and _stayed(names) == expected) for _, names in walks
        )
        pages, names = walks[0]
        cpu = (after.cpu_seconds - before.cpu_seconds) / sum(walk[0] for walk in walks)
        times = await asyncio.to_thread(_least_times, server, gateway, target, member)
        median, most = times[len(times) // 2], times[-1]
        print(
            f"{target:34}{pages:>6}{len(names):>8}{is_complete!s:>9}{cpu * 1000:>9.2f}"
            f"{_longest(before.lags, after.lags) * 1000:>9.1f}{median / 1000:>14.2f}{most / 1000:>9.2f}",
            flush=True,
        )
        # Of a list of one page most of the CPU is that of the metrics.
        is_slow = pages > 1 and cpu >= GATEWAY_SECONDS
        failed |= not is_complete or most >= REDIS_SECONDS * 1e6 or is_slow
    return failed


class _Gateway(NamedTuple):
    """What a gateway has used of its CPU, and how often its loop was at most so late (s)."""

    cpu_seconds: float
    lags: dict[float, float]


def _least_times(server: RedisServer, gateway: GatewayProcess, target: str, member: str) -> list[int]:
    """Return the time that each page takes in Redis (µs), the least of some walks, in ascending order."""
    walks = []
    for _ in range(ROUNDS):
        with _slowlog(server):
            _walk(gateway, target, member, max_pages=PAGES)
            walks.append(_script_times(server))
    assert walks[-1]
    assert len(set(map(len, walks))) == 1, "the pages are the same ones each time"
    return sorted(map(min, zip(*walks, strict=True)))


def _stayed(names: list[str]) -> int:
    return len([name for name in names if "passing" not in name])


def _walk(
    gateway: GatewayProcess, target: str, member: str, max_pages: int = 1_000_000
) -> tuple[int, list[str]]:
    names: list[str] = []
    pages, cursor = 0, ""
    while True:
        answer: Any = gateway.backend.send("GET", target + cursor)
        assert answer.status == 200, answer
        pages += 1
        if not member:
            return pages, names
        names += [each["sid" if member == "connections" else "name"] for each in answer.body[member]]
        if answer.body["next"] is None or pages == max_pages:
            return pages, names
        cursor = f"&cursor={answer.body['next']}"


async def _register(replicas: list[Replica], numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, 200):
        await asyncio.gather(
            *(
                _connect(replicas[number % 2], f"{number}")
                for number in range(start, min(start + 200, numbers.stop))
            )
        )


async def _register_large(replicas: list[Replica]) -> None:
    text = encode_data({"t": "x" * (MAX_DATA_BYTES - len('{"t":""}'))})
    rooms = ["user:large", *(f"large room {room:03}" for room in range(LARGE_ROOMS))]
    for number in range(LARGE):
        replica = replicas[number % 2]
        connection = PresentConnection(f"~large{number}", "large", "/", replica.name, "websocket", 1000.0)
        await replica.state.presence.register(connection, rooms)
        await replica.state.socket_data.replace(connection.sid, text, expected=0)


async def _connect(replica: Replica, name: str) -> None:
    rooms = [f"user:{name}", "all", *(f"room:{name}:{room}" for room in range(OWN_ROOMS))]
    connection = PresentConnection(f"~{name}", name, "/", replica.name, "websocket", 1000.0)
    await replica.state.presence.register(connection, rooms)


async def _churn(replicas: list[Replica]) -> None:
    """Let connections come and go, about 400 a second."""
    number = 0
    while True:
        await asyncio.gather(*(_connect(replicas[each % 2], f"passing{number + each}") for each in range(10)))
        for each in range(10):
            await replicas[each % 2].state.presence.unregister(f"~passing{number + each}")
        number += 10
        await asyncio.sleep(0.02)


@contextmanager
def _slowlog(server: RedisServer) -> Iterator[None]:
    server.execute("CONFIG", "SET", "slowlog-log-slower-than", 0)
    server.execute("CONFIG", "SET", "slowlog-max-len", 200_000)
    server.execute("SLOWLOG", "RESET")
    try:
        yield
    finally:
        server.execute("CONFIG", "SET", "slowlog-log-slower-than", -1)


def _script_times(server: RedisServer) -> list[int]:
    """Return how many microseconds each script of a list took, as the gateway ran it."""
    with server.client() as client:
        entries = client.slowlog_get(1_000_000)
    found = []
    for entry in entries:
        command = bytes(entry["command"]).split(b" ")
        is_list = command[0] == b"EVALSHA" and len(command) > 4 and command[4] in _FIRST_ARGUMENTS
        if is_list and entry["client_name"] == b"sio-gateway:c":
            found.append(int(entry["duration"]))
    return found


def _rooms(server: RedisServer) -> int:
    return int(server.execute("ZCARD", f"{PREFIX}:rooms:/"))


def _megabytes(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("memory")["used_memory"]) // 1_000_000


def _read_gateway(gateway: GatewayProcess) -> _Gateway:
    page = read_metrics(gateway.url)
    lags = re.findall(r'event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', page)
    (cpu,) = re.findall(r"^process_cpu_seconds_total (\S+)", page, re.MULTILINE)
    return _Gateway(float(cpu), {float(bound): float(count) for bound, count in lags})


def _longest(before: dict[float, float], after: dict[float, float]) -> float:
    """Return the bound of the longest lag between two readings."""
    counts = {bound: count - before[bound] for bound, count in after.items()}
    return min(bound for bound, count in counts.items() if count == max(counts.values()))


if __name__ == "__main__":
    main()
