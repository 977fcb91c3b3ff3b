"""Replicas with a presence part in their event catalogue, a backend that receives their webhooks, and users."""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.support.gateway_process import GatewayProcess
from tests.support.metrics import read_metrics
from tests.support.raw_clients import RawSocket, http_session
from tests.support.redis_server import RedisServer
from tests.support.waiter import TIMEOUT_SECONDS, await_until
from tests.support.webhook_server import SECRET, WebhookServer

LEASE_SECONDS = 5.0
SLACK_SECONDS = 30.0
"""For a machine that runs other tests, too."""
PING_INTERVAL_SECONDS = 600.0
"""Longer than a test: the sockets of ``Deployment.connect`` are not read, so they would answer no ping."""


class Receiver(WebhookServer):
    """Records what it accepted of each user, as a backend would."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False
        self.rejected: set[str] = set()
        self.accepted: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        """Type and version of each accepted change, by user."""
        self.attempts: defaultdict[str, list[int]] = defaultdict(list)
        """The version of each change that arrived, accepted or not, by user."""
        self.at: dict[tuple[str, str], float] = {}
        """When the first change of a type and a user was accepted, by the monotonic clock."""
        self.status_of = self._take

    def _take(self, body: dict[str, Any]) -> int:
        changes = body["data"] if body["type"] == "batch" else [body]
        for change in changes:
            self.attempts[change["data"]["user"]].append(change["data"]["version"])
        if self.is_down:
            return 503
        if any(change["data"]["user"] in self.rejected for change in changes):
            return 400
        for change in changes:
            user, kind = change["data"]["user"], change["type"]
            self.accepted[user].append((kind, change["data"]["version"]))
            self.at.setdefault((kind, user), time.monotonic())
        return 200

    def states(self, user: str) -> list[str]:
        """Return the types of the accepted changes of a user, in order."""
        return [kind for kind, _ in self.accepted[user]]

    def distinct_states(self, user: str) -> list[str]:
        """Return the same without repeats of one version: a replica that is killed may not record the last request."""
        return [kind for kind, _ in dict.fromkeys(self.accepted[user])]

    def users(self, kind: str) -> set[str]:
        """Return the users whose newest accepted change is of a type."""
        return {user for user, changes in list(self.accepted.items()) if changes and changes[-1][0] == kind}


class Deployment:
    """Replicas of one gateway: with Redis three of them, else one."""

    def __init__(self, folder: Path, receiver: Receiver, redis_url: str | None) -> None:
        self.receiver = receiver
        self.redis_url = redis_url
        self._catalogue = folder / "events.yaml"
        self._webhooks = folder / "webhooks.yaml"
        self._secret = folder / "secret"
        self._secret.write_text(SECRET)
        self.replicas: list[GatewayProcess] = []
        self._killed: list[GatewayProcess] = []
        self.http: aiohttp.ClientSession

    def start(self, catalogue: dict[str, Any], *, batch: int = 1, **settings: Any) -> None:
        """Start the replicas."""
        self.write(catalogue)
        options = {"id": "app", "url": self.receiver.url, "secret_file": str(self._secret), "batch": batch}
        self._webhooks.write_text(yaml.safe_dump({"webhooks": [options]}))
        common: dict[str, Any] = {
            "config": self._webhooks,
            "events_file": self._catalogue,
            "connect_rate": 2000,
            "drain_seconds": 1,
            "max_connections_per_user": 50,
            "ping_interval_seconds": PING_INTERVAL_SECONDS,
            "redis_url": self.redis_url,
        }
        if self.redis_url:
            common["lease_seconds"] = LEASE_SECONDS

        def start(number: int) -> GatewayProcess:
            return GatewayProcess(replica_id=f"r{number}", **common | settings)

        with ThreadPoolExecutor() as together:
            self.replicas = list(together.map(start, range(3 if self.redis_url else 1)))

    def write(self, catalogue: dict[str, Any]) -> None:
        self._catalogue.write_text(yaml.safe_dump({"version": 1} | catalogue))

    def reload(self, catalogue: dict[str, Any]) -> None:
        """Let every replica use another catalogue."""
        self.write(catalogue)
        for replica in self.replicas:
            before = len(replica.log.entries)
            replica.signal(signal.SIGHUP)
            replica.log.wait(lambda line: line.get("event") == "settings.reloaded", after=before)

    async def connect(self, user: str, *, at: int = 0, namespace: str = "/", **claims: Any) -> RawSocket:
        """Connect a user to a replica."""
        replica = self.replicas[at % len(self.replicas)]
        socket = await RawSocket.open(self.http, replica.url)
        await socket.join(replica.token(user, **claims), namespace)
        return socket

    def kill(self, number: int) -> float:
        """Kill a replica; return when, by the monotonic clock."""
        replica = self.replicas.pop(number)
        self._killed.append(replica)
        replica.kill()
        return time.monotonic()

    async def until(
        self, holds: Callable[[], object], what: str, *, seconds: float = TIMEOUT_SECONDS
    ) -> None:
        """Wait until something holds."""
        await await_until(lambda: bool(holds()), what, seconds=seconds)

    def metric(self, number: int, name: str) -> float:
        """Return the sum of all series of a metric of a replica."""
        text = read_metrics(self.replicas[number].url)
        return sum(
            float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name}{{")
        )

    def stop_all(self) -> None:
        """Stop all replicas, one after the other, as if the deployment was scaled to none."""
        for replica in self.replicas:
            assert replica.stop() == 0
        self.replicas = []

    def stop(self) -> None:
        if not self.replicas:
            return
        with ThreadPoolExecutor() as together:
            statuses = list(together.map(GatewayProcess.stop, self.replicas))
        assert statuses == [0] * len(self.replicas)
        assert [line for replica in self.replicas for line in replica.failures()] == []


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture(params=["memory", "redis"])
async def deployment(request, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Deployment]:
    """A deployment that is stopped at the end; in memory and with Redis."""
    async for made in _deployment(request.param, request, tmp_path, receiver):
        yield made


@pytest.fixture
async def shared_deployment(request, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Deployment]:
    """The same with Redis alone."""
    async for made in _deployment("redis", request, tmp_path, receiver):
        yield made


async def _deployment(
    state: str, request: Any, folder: Path, receiver: Receiver
) -> AsyncIterator[Deployment]:
    url = None
    if state == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.execute("FLUSHALL")
        url = server.url
    made = Deployment(folder, receiver, url)
    async with http_session() as made.http:
        yield made
    made.stop()
