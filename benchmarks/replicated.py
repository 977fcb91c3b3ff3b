"""The scenarios with two replicas and Redis: backends push to one replica, the clients are connected to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks import comparison, servers
from benchmarks.comparison import Figures, check_complete
from benchmarks.load.generator import LoadGenerator
from benchmarks.machine import cores, on_cores
from benchmarks.servers import Server
from tests.support.redis_server import RedisServer

MAKERS: Final[dict[str, Callable[..., Server]]] = {"gateway": servers.gateway, "node": servers.node}


@dataclass(frozen=True)
class Pair:
    """Two replicas, both on the core of the servers; Redis is on a core of the load."""

    receiving: Server
    publishing: Server
    redis: RedisServer

    def cpu_seconds(self) -> float:
        """Return the CPU time of both replicas so far."""
        return self.receiving.cpu_seconds() + self.publishing.cpu_seconds()

    def redis_cpu_seconds(self) -> float:
        """Return the CPU time of Redis so far."""
        with self.redis.client() as client:
            info = client.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])

    def load(self) -> LoadGenerator:
        """Start a load generator that pushes to the one replica and connects to the other."""
        return LoadGenerator(self.receiving, cores()[1], publisher=self.publishing)


@contextmanager
def start_pair(name: str) -> Iterator[Pair]:
    """Start Redis and two replicas of ``gateway`` or ``node``."""
    with ExitStack() as stack:
        with on_cores(set(cores()[1])):
            redis = RedisServer()
        stack.callback(redis.stop)
        first, second = (stack.enter_context(MAKERS[name](redis_url=redis.url)) for _ in range(2))
        yield Pair(first, second, redis)


def emit(pair: Pair) -> Figures:
    """Push single messages as ``comparison.emit`` does, through the other replica."""
    with pair.load() as load:
        load.connect(comparison.CLIENTS)
        before, redis_before = pair.cpu_seconds(), pair.redis_cpu_seconds()
        answer = load.emit(comparison.EMITS, connections=comparison.EMIT_CONNECTIONS)
        used, redis_used = pair.cpu_seconds() - before, pair.redis_cpu_seconds() - redis_before
    check_complete(answer, pair.receiving)
    return {
        "redis_emits": answer["requests_per_second"],
        "redis_emit_cpu": used / comparison.EMITS * 1e6,
        "redis_own_cpu": redis_used / comparison.EMITS * 1e6,
        "load_redis_emit": answer["cpu_share"],
    }


def latency_at_rate(pair: Pair) -> Figures:
    """Measure the latency as ``comparison.latency_at_rate`` does, through the other replica."""
    count = comparison.PUSH_RATE * comparison.RATE_SECONDS
    with pair.load() as load:
        load.connect(comparison.CLIENTS, stamped=True)
        before = pair.cpu_seconds()
        answer = load.emit(count, connections=comparison.PACED_CONNECTIONS, rate=comparison.PUSH_RATE)
        used = pair.cpu_seconds() - before
    check_complete(answer, pair.receiving)
    return {
        "redis_p50": answer["latency"]["p50"] * 1e3,
        "redis_p99": answer["latency"]["p99"] * 1e3,
        "redis_paced_cpu": used / count * 1e6,
        "load_redis_paced": answer["cpu_share"],
    }


def connect(pair: Pair) -> Figures:
    """Measure the CPU time of one replica to connect a client, as ``comparison.connect_and_disconnect`` does."""
    return {"redis_connect": comparison.connect_and_disconnect(pair.receiving)["connect"]}


SCENARIOS: Final = (emit, latency_at_rate, connect)
