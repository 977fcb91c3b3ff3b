"""``python -m benchmarks.sizing``: measure memory and CPU time of Redis, for docs/how-to/scale.md.

Replicas are the Redis state without servers, all in this process. Redis is a process of its own: the Valkey of the
development tools, or the program that REDIS_SERVER names. Figures are those of INFO, so a busy machine changes them
little.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import machine, tables
from benchmarks.comparison import Figures
from benchmarks.replicas import Replica, replicas, run_all
from gateway.domain import positions
from gateway.domain.dedup import DedupKey
from gateway.domain.messages import Address, Message, new_id
from gateway.domain.presence import PresentConnection
from gateway.domain.sessions import RecoverySession
from gateway.logs import configure_logging
from tests.support.redis_server import RedisServer

RECORDS: Final = 10_000
PUSHES: Final = 5_000
WARM_UP: Final = 200
NAMESPACE: Final = "/"
PER_ORGANISATION: Final = 100
RECORD_BYTES: Final = 300
FIRST: Final = "push in the history, the first of its room, besides its record"
FURTHER: Final = "push in the history, a further one, besides its record"


@dataclass(frozen=True)
class Push:
    """One kind of push: bytes of its argument, number of replicas that subscribe its rooms, number of rooms, and number
    of running replicas if that is larger."""

    size: int
    holders: int
    rooms: int = 1
    living: int = 0

    def __str__(self) -> str:
        rooms = "a room" if self.rooms == 1 else f"{self.rooms} rooms"
        holders = {0: "no replica has", 1: "one replica has"}.get(
            self.holders, f"{self.holders} replicas have"
        )
        living = f", of {self.living} that live" if self.living else ""
        return f"{self.size:,} bytes to {rooms} that {holders}".replace(",", " ") + living


PUSHED: Final = (
    Push(100, 0), Push(100, 1), Push(100, 3), Push(100, 8), Push(1_000, 1), Push(10_000, 1), Push(50_000, 1),
    Push(200_000, 1), Push(200_000, 3), Push(100, 1, rooms=10), Push(100, 1, rooms=100), Push(100, 1, living=50),
    Push(100, 50, living=50),
)  # fmt: skip


def read_info(server: RedisServer) -> Figures:
    """Read memory in use (bytes), CPU time (µs) and bytes on the wire so far."""
    with server.client() as client:
        info = {**client.info("memory"), **client.info("cpu"), **client.info("stats")}
    return {
        "memory": info["used_memory"],
        "cpu": (info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6,
        "in": info["total_net_input_bytes"],
        "out": info["total_net_output_bytes"],
    }


# memory


def connection(index: int) -> tuple[PresentConnection, list[str]]:
    """Make a user's only connection, with the room of the user and that of an organisation of 100 users."""
    user = f"user-{index:08}"
    rooms = [f"user:{user}", f"org:{index // PER_ORGANISATION}"]
    return PresentConnection(
        f"sid{index:017}", user, NAMESPACE, "replica-0", "websocket", 1.7e9 + index
    ), rooms


def session(index: int) -> RecoverySession:
    """Make the recovery session of that connection."""
    user = f"user-{index:08}"
    return RecoverySession(
        f"pid{index:019}", f"sid{index:017}", user, NAMESPACE, "replica-0/1", frozenset(), positions.START
    )


def dedup_key(index: int, *, idempotent: bool = False) -> DedupKey:
    """Make the dedup key of a signed request."""
    now = time.time()
    key = f"order-{index}" if idempotent else None
    return DedupKey("shop", f"nonce-{index:026}", now + 300, key, "shop POST /emit", "f" * 64, None)


def push(index: int, size: int, *rooms: str) -> Message:
    """Make a message with one argument of ``size`` bytes."""
    text = '"' + "x" * (size - 2) + '"'
    return Message(new_id(), NAMESPACE, rooms or (f"user:user-{index:08}",), "notification:new", (text,))


def stored_kinds(replica: Replica) -> dict[str, Callable[[int], Awaitable[object]]]:
    """Return for each kind of record that Redis keeps a function that adds one."""
    state = replica.state

    async def subscribe(index: int) -> None:
        present, rooms = connection(index)
        await state.broker.subscribe([Address(NAMESPACE, room) for room in (present.sid, rooms[0])])

    async def connect_and_disconnect(index: int) -> None:
        present, rooms = connection(RECORDS + index)
        await state.presence.register(present, rooms)
        await state.presence.unregister(present.sid)

    def one_time(index: int) -> Awaitable[object]:
        entry = push(index, RECORD_BYTES)._replace(volatile=True)
        return state.broker.append(entry, dedup_key(RECORDS + index, idempotent=True))

    return {
        "connection, its user and rooms": lambda index: state.presence.register(*connection(index)),
        "last seen of a user who disconnected": connect_and_disconnect,
        "two channels of its own": subscribe,
        "session in use": lambda index: state.sessions.save(session(index)),
        "the same left behind, in addition": lambda index: state.sessions.park(
            f"pid{index:019}", owner="replica-0/1"
        ),
        FIRST: lambda index: state.broker.append(push(index, RECORD_BYTES)),
        FURTHER: lambda index: state.broker.append(push(index, RECORD_BYTES)),
        "nonce of a request": lambda index: state.dedup.consume_nonce(dedup_key(index)),
        "receipt, nonce and idempotency key": one_time,
    }


async def measure_stored(server: RedisServer) -> dict[str, Figures]:
    """Measure bytes in Redis, bytes in the replica and µs of Redis's CPU for one of each kind."""
    found: dict[str, Figures] = {}
    async with replicas(server, 1) as [replica]:
        record = len(replica.state.codec.encode(push(0, RECORD_BYTES)))
        for kind, add in stored_kinds(replica).items():
            before, own = read_info(server), own_bytes()
            await run_all([partial(add, index) for index in range(RECORDS)])
            after = read_info(server)
            found[kind] = {
                "bytes in Redis": (after["memory"] - before["memory"]) / RECORDS
                - record * (kind in {FIRST, FURTHER}),
                "bytes in the replica": (own_bytes() - own) / RECORDS,
                "µs of Redis's CPU": (after["cpu"] - before["cpu"]) / RECORDS,
            }
    return found


def own_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


# pushes


async def measure_push(server: RedisServer, kind: Push) -> Figures:
    """Measure µs of CPU and bytes on the wire for one push of a kind."""
    rooms = [f"room-{index}" for index in range(kind.rooms)]
    async with replicas(server, max(1, kind.holders, kind.living)) as found:
        for holder in found[: kind.holders]:
            await holder.state.broker.subscribe([Address(NAMESPACE, room) for room in rooms])
        publisher = found[0].state.broker
        number = PUSHES // 10 if kind.size >= 50_000 or kind.rooms >= 100 else PUSHES
        pushes = [
            partial(publisher.append, push(index, kind.size, *rooms), dedup_key(index))
            for index in range(WARM_UP + number)
        ]
        await run_all(pushes[:WARM_UP])
        for holder in found[: kind.holders]:
            await holder.wait_for(WARM_UP)
        before = read_info(server)
        await run_all(pushes[WARM_UP:])
        for holder in found[: kind.holders]:
            await holder.wait_for(len(pushes))
        after = read_info(server)
    cpu = (after["cpu"] - before["cpu"]) / number
    return {
        "µs of CPU": cpu,
        "pushes/s of one core": 1e6 / cpu,
        "bytes in": (after["in"] - before["in"]) / number,
        "bytes out": (after["out"] - before["out"]) / number,
    }


def describe(server: RedisServer) -> str:
    """Describe the Redis server and the machine."""
    with server.client() as client:
        info = client.info("server")
    name = (
        f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    )
    return f"{name}, {machine.cpu_model()}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    configure_logging("error", "console")
    with machine.on_cores(set(machine.cores()[1])):
        server = RedisServer()
    try:
        print(describe(server))
        print(f"\n{tables.markdown(tables.kinds(asyncio.run(measure_stored(server))))}\n")
        found: dict[str, Figures] = {}
        for kind in PUSHED:
            server.execute("FLUSHALL")
            found[str(kind)] = asyncio.run(measure_push(server, kind))
        print(tables.markdown(tables.kinds(found)))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
