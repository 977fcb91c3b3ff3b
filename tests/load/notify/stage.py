"""Three replicas whose clients send notifications, a fault, and what was acknowledged beside what arrived."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.load.notify.receiver import SECRET, Received, ReceiverProcess
from tests.load.notify.senders import Senders, Sent
from tests.load.soak.chaos import FaultInjector
from tests.load.soak.runner import LEASE_SECONDS, NAMES, replicas_at, version_of
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer, Sentinels
from tests.support.waiter import wait_until

USERS: Final = 500
DELAY_SECONDS: Final = 0.005
"""How long the backend takes for an answer, so that requests are under way at each moment."""
ARRIVE_SECONDS: Final = 150.0
"""For the last notification: a retry may come after 60 s, and one more try is due then."""
STUCK_SECONDS: Final = 240.0
CATALOGUE: Final = """
version: 1
namespaces:
  /:
    client_events:
      save:
        args: [{type: object, required: [id, n]}]
        dedupe: $0.id
        notify: app
        ack: {ok: true}
"""


@dataclass
class Stage:
    """What a fault may break."""

    replicas: list[GatewayProcess]
    injector: FaultInjector
    wait_until_sent: Callable[[float], None]
    """Waits until a share of the notifications is acknowledged."""
    redis: RedisServer
    sentinels: Sentinels | None = None

    def wait(self, seconds: float) -> None:
        """Wait while the load continues."""
        self.injector.wait(seconds)

    def wait_until_owner(self, replica: GatewayProcess) -> None:
        """Wait until a replica owns partitions, as each does a few seconds after a change."""
        wait_until(lambda: owned(replica) != [], f"{replica.replica_id} owns partitions")


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault. ``redis``: options of the server. ``watched``: Sentinels watch it and a replica of it."""

    name: str
    cause: Callable[[Stage], None]
    redis: Mapping[str, Any] = field(default_factory=dict)
    watched: bool = False


@dataclass
class Comparison:
    """What became of the notifications of a run; each of ``wrong`` is a sentence about one that is not as promised."""

    acknowledged: int = 0
    arrived: int = 0
    doubled: int = 0
    out_of_order: int = 0
    dead: int = 0
    batches: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Run:
    """One run. ``arrived_seconds``: from the last acknowledgement to the last arrival."""

    comparison: Comparison
    sent: Sent
    seconds: float
    arrived_seconds: float
    versions: dict[str, str]


def cause(
    kind: FaultKind, *, notifications: int, per_second: float, batch: int = 1, users: int = USERS
) -> Run:
    """Start replicas, backend and clients, cause the fault, and compare."""
    with (
        ReceiverProcess(delay_seconds=DELAY_SECONDS) as receiver,
        _redis(kind) as (redis, sentinels, url),
        configured([{"id": "app", "url": receiver.url, "batch": batch}], CATALOGUE) as settings,
        replicas_at(dict.fromkeys(NAMES, url), **settings, **_settings(kind)) as replicas,
        Senders() as senders,
    ):
        senders.connect(replicas, users, "save")
        injector = FaultInjector(replicas, senders.choose, lease_seconds=LEASE_SECONDS)
        each = notifications // users
        total = each * users

        def wait_until_sent(share: float) -> None:
            senders.wait_for(round(share * total), seconds=STUCK_SECONDS)

        began_at = time.monotonic()
        senders.start(each, per_second=per_second)
        kind.cause(Stage(replicas, injector, wait_until_sent, redis, sentinels))
        sent = senders.finish(seconds=STUCK_SECONDS + total / per_second)
        acknowledged_at = time.time()
        errors = _wait_until_arrived(receiver, total)
        received = receiver.received()
        dead = dead_letters(replicas[0], "app")
        versions = {"client": senders.client_version, "redis": version_of(redis)}
        injector.stop_all()
        comparison = compare(received, {user: each for user, _ in senders.users})
        comparison.dead = len(dead)
        comparison.wrong += [f"a dead letter: {letter}" for letter in dead]
        comparison.wrong += errors + injector.errors + receiver.wrong()
    last = max((each.at for each in received), default=acknowledged_at)
    return Run(comparison, sent, time.monotonic() - began_at, max(0.0, last - acknowledged_at), versions)


def compare(
    received: Iterable[Received],
    acknowledged: Mapping[str, int],
    *,
    rejected: Set[tuple[str, int]] = frozenset(),
) -> Comparison:
    """Compare the events in the order of their arrival with how many of each user were acknowledged, from 1 on.

    ``rejected``: user and number of those that the backend rejects. A repeat counts as doubled if it has the id of the
    first arrival, and is wrong otherwise; its ``sequence`` is higher if the state lost the event before it was
    acknowledged, so that the client sent it again. First arrivals are in order: their ``sequence`` rises, and so do the
    numbers.
    """
    found = Comparison(acknowledged=sum(acknowledged.values()))
    newest: dict[str, Received] = {}
    firsts: dict[tuple[str, int | None], Received] = {}
    users: dict[str, str] = {}
    for each in received:
        found.batches[each.size] += 1
        first = firsts.setdefault((each.user, each.n), each)
        if first is not each:
            found.doubled += 1
            if first.id != each.id or first.rank > each.rank:
                found.wrong.append(f"a repeat with another id or a lower sequence: {first}, {each}")
            continue
        if users.setdefault(each.id, each.user) != each.user:
            found.wrong.append(f"an id of two users: {each}")
        before = newest.get(each.user)
        if before is not None and (before.rank >= each.rank or (before.n or 0) >= (each.n or 0)):
            found.out_of_order += 1
            found.wrong.append(f"out of order: {before}, {each}")
        newest[each.user] = each
    found.arrived = len(firsts)
    expected = {(user, n) for user, count in acknowledged.items() for n in range(1, count + 1)} - rejected
    found.wrong += [f"lost: {each}" for each in sorted(expected - firsts.keys())]
    found.wrong += [f"never sent: {each}" for each in firsts.keys() - expected]
    return found


@contextmanager
def configured(webhooks: Sequence[Mapping[str, Any]], catalogue: str) -> Iterator[dict[str, Any]]:
    """Write the files of webhooks and event catalogue; the context is the settings that name them."""
    with tempfile.TemporaryDirectory() as folder:
        config, events = Path(folder, "gateway.yaml"), Path(folder, "events.yaml")
        config.write_text(json.dumps({"webhooks": [{"secret": SECRET} | dict(each) for each in webhooks]}))
        events.write_text(catalogue)
        yield {"config": str(config), "events_file": str(events)}


def dead_letters(gateway: GatewayProcess, webhook: str) -> list[dict[str, Any]]:
    """Return the dead letters of a webhook, by the REST API."""
    answer = gateway.backend.send("GET", f"/webhooks/{webhook}/dead")
    assert answer.status == 200, answer
    letters: list[dict[str, Any]] = answer.body["dead"]
    return letters


def owned(replica: GatewayProcess, webhook: str = "app") -> list[int]:
    """Return the partitions of a webhook that a replica owns, by its REST API."""
    answer = replica.backend.send("GET", "/webhooks")
    assert answer.status == 200, answer
    [found] = [each for each in answer.body["webhooks"] if each["id"] == webhook]
    partitions: list[int] = found["owners"].get(replica.replica_id, [])
    return partitions


def _settings(kind: FaultKind) -> dict[str, Any]:
    more: dict[str, Any] = {"redis_wait_replicas": 1} if kind.watched else {}
    return {"lease_seconds": LEASE_SECONDS, "drain_seconds": 3.0, "subscription_timeout_seconds": 3.0} | more


def _wait_until_arrived(receiver: ReceiverProcess, total: int) -> list[str]:
    try:
        wait_until(lambda: receiver.counts()[1] >= total, "all notifications arrive", seconds=ARRIVE_SECONDS)
    except AssertionError as error:
        return [str(error)]
    return []


@contextmanager
def _redis(kind: FaultKind) -> Iterator[tuple[RedisServer, Sentinels | None, str]]:
    with ExitStack() as stack:
        if kind.watched:
            watched = stack.enter_context(Sentinels())
            yield watched.primary, watched, f"redis+sentinel://{watched.sentinels}/main"
            return
        redis = RedisServer(**kind.redis)
        stack.callback(redis.stop)
        yield redis, None, redis.url
