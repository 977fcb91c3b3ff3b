"""Three replicas under load, each behind a proxy of its own to Redis; a second Redis where a fault needs one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.load.soak.chaos import FaultInjector
from tests.load.soak.clients import ClientBehaviour, SoakClients
from tests.load.soak.runner import NAMES, SETTINGS, Plan, Run, replicas_at, run_on, version_of
from tests.support.assertions import CERTAINLY_NOT
from tests.support.faketime import SteppedClock
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

CLIENTS, PER_SECOND = 48, 60.0
GIVES_UP = 0.3
"""Share of the pushes that a backend does not repeat when they are first answered ``broker_unavailable``."""
UP_SECONDS = (2.0, 6.0)
"""Clients are dropped under each fault too, so that some are away when it happens."""
TOKENS = {"lifetime_seconds": 48 * 3600, "iat": None}
"""Valid for any clock that a fault sets."""
BEFORE_SECONDS, AFTER_SECONDS = 2.0, 3.0
"""Load before and after the fault."""


@dataclass
class Stage:
    """What a fault may break."""

    redis: RedisServer
    other: RedisServer | None
    """A replica of ``redis``."""
    proxies: list[TcpProxy]
    replicas: list[GatewayProcess]
    injector: FaultInjector
    clients: SoakClients
    clock: SteppedClock | None = None
    """The clock of Redis or of the first replica."""

    def wait(self, seconds: float) -> None:
        """Wait while the load continues."""
        self.injector.wait(seconds)

    @property
    def spare(self) -> RedisServer:
        """The replica of Redis."""
        assert self.other is not None
        return self.other

    def step_clock(self, seconds: float, *, back_after: float) -> None:
        """Set the clock by some seconds, and right again later."""
        assert self.clock is not None
        self.clock.step_to(seconds)
        self.wait(back_after)
        self.clock.step_to(0.0)

    def lead_to(self, server: RedisServer, *numbers: int) -> None:
        """Connect replicas to another Redis, as a changed service address does; all of them without ``numbers``."""
        for number in numbers or range(len(self.proxies)):
            self.proxies[number].lead_to(server.port)
            self.proxies[number].cut_connections()


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault.

    ``lossy``: Redis loses messages that were answered 2xx, so clients may miss them if they get ``recovery:failed``.
    ``drops``: connections of clients break meanwhile. ``redis``: options of the server. ``mirrored``: it has a replica.
    ``clock_of``: ``redis`` or ``replica``, whose clock the fault steps. ``logged``: errors that belong into the log.
    """

    name: str
    cause: Callable[[Stage], None]
    lossy: bool = False
    drops: bool = True
    mirrored: bool = False
    redis: Mapping[str, Any] = field(default_factory=dict)
    processes: int = 1
    clock_of: str = ""
    logged: Collection[str] = ()

    @property
    def promised(self) -> str:
        return "once and in order, or `recovery:failed`" if self.lossy else "once and in order"


def cause(kind: FaultKind) -> Run:
    """Start replicas and load, cause the fault, and compare."""
    plan = Plan(
        CLIENTS,
        PER_SECOND,
        ClientBehaviour(up_seconds=UP_SECONDS if kind.drops else None, claims=TOKENS),
        with_sids=not kind.lossy,  # a client that is not recovered has another sid
        processes=kind.processes,
        gives_up=GIVES_UP,
        lossy=kind.lossy,
        rejected=CERTAINLY_NOT if kind.lossy else frozenset({"broker_unavailable"}),
    )
    with _surroundings(kind) as (redis, other, proxies, replicas, clock):

        def scenario(injector: FaultInjector, clients: SoakClients) -> None:
            injector.wait(BEFORE_SECONDS)
            kind.cause(Stage(redis, other, proxies, replicas, injector, clients, clock))
            injector.wait(AFTER_SECONDS)

        done = run_on(replicas, version_of(redis), plan, scenario)
    errors = done.comparison.wrong
    errors[:] = [each for each in errors if not any(f"'event': '{event}'" in each for event in kind.logged)]
    return done


Surroundings = tuple[
    RedisServer, RedisServer | None, list[TcpProxy], list[GatewayProcess], SteppedClock | None
]


@contextmanager
def _surroundings(kind: FaultKind) -> Iterator[Surroundings]:
    with ExitStack() as stack:
        clock = SteppedClock() if kind.clock_of else None
        under: Sequence[str] = ()
        if clock is not None:
            stack.callback(clock.stop)
            under = clock.under
        redis = RedisServer(under=under if kind.clock_of == "redis" else (), **kind.redis)
        stack.callback(redis.stop)
        other = RedisServer(replicaof=f"127.0.0.1 {redis.port}", **kind.redis) if kind.mirrored else None
        if other is not None:
            stack.callback(other.stop)
        proxies = [stack.enter_context(TcpProxy(redis.port)) for _ in NAMES]
        urls = {name: proxy.redis_url for name, proxy in zip(NAMES, proxies, strict=True)}
        settings = SETTINGS | {"subscription_timeout_seconds": 3.0, "drain_seconds": 3.0}
        stepped = {NAMES[0]: under} if kind.clock_of == "replica" else {}
        replicas = stack.enter_context(replicas_at(urls, under=stepped, **settings))
        yield redis, other, proxies, replicas, clock
