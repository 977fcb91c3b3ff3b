"""Push to random combinations of rooms on three replicas, and compare who received what with plain sets.

Each round connects nothing anew: some clients lose their connection, the messages of the round are pushed meanwhile,
and the clients recover on another replica. A message is expected at a client whose rooms satisfy it, once.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.domain.messages import MAX_BATCH
from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import wait_until

REPLICAS: Final = 3
CLIENTS: Final = 24
USERS: Final = 16
NAMES: Final = tuple(f"r:{number}" for number in range(8))
AWAY: Final = 8
"""Clients that are away while the messages of a round are pushed."""
RECONNECT_MS: Final = 400
ROUND_SECONDS: Final = 60.0
CASE, END = "case", "end"


@dataclass(frozen=True, eq=False)
class Listener:
    """A client, and all names that address it: its rooms, that of its user, and its sid."""

    client: StockClient
    names: frozenset[str]


@dataclass(frozen=True)
class Case:
    """A message: ``one_of`` empty is everyone; ``body`` is the message as a batch has it."""

    number: int
    one_of: frozenset[str]
    all_of: frozenset[str]
    excluded: frozenset[str]
    body: dict[str, Any]

    def is_for(self, names: frozenset[str]) -> bool:
        """Whether a client with these names gets it: plain sets."""
        is_addressed = not self.one_of or bool(self.one_of & names)
        return is_addressed and self.all_of <= names and not self.excluded & names


@dataclass
class Findings:
    """What a run found."""

    cases: int = 0
    deliveries: int = 0
    recovered: int = 0
    """Deliveries to clients that were away."""
    failed_recoveries: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Setup:
    """The replicas, and the clients on them."""

    node: NodeClients
    replicas: list[GatewayProcess]
    listeners: list[Listener]


def run(redis_url: str, cases: int, seed: int) -> Findings:
    """Push ``cases`` random messages in rounds of MAX_BATCH, and compare each round with the oracle."""
    chance, found = random.Random(seed), Findings()
    with ExitStack() as stack:
        replicas = [
            GatewayProcess(redis_url=redis_url, redis_prefix=f"audiences{seed}") for _ in range(REPLICAS)
        ]
        for replica in replicas:
            stack.callback(replica.stop)
        node = NodeClients()
        stack.callback(node.stop)
        setup = Setup(node, replicas, _connect(node, replicas, chance))
        while found.cases < cases:
            made = [_case(chance, setup.listeners, found.cases + index) for index in range(MAX_BATCH)]
            _round(setup, made, chance, found)
            found.cases += len(made)
    return found


def _connect(node: NodeClients, replicas: list[GatewayProcess], chance: random.Random) -> list[Listener]:
    opened = []
    for number in range(CLIENTS):
        replica, user = replicas[number % REPLICAS], f"u{number % USERS}"
        rooms = chance.sample(NAMES, chance.randrange(1, 7))
        client = node.open(
            replica.url,
            token=replica.token(user, rooms=rooms),
            transports=[chance.choice(["websocket", "websocket", "polling"])],
            reconnectionDelay=RECONNECT_MS,
            reconnectionDelayMax=RECONNECT_MS,
            randomizationFactor=0,
        )
        opened.append((client, {f"user:{user}", *rooms}))
    return [Listener(client, frozenset({*names, client.connected().sid})) for client, names in opened]


def _case(chance: random.Random, listeners: list[Listener], number: int) -> Case:
    everything = [
        *NAMES,
        *{name for each in listeners for name in each.names if name.startswith(("user:", "~"))},
    ]
    kind = chance.choice(["user", "users", "room", "rooms", "rooms", "rooms", "everyone"])
    target: Any = kind
    names: list[str] = []
    if kind != "everyone":
        pool = [f"u{user}" for user in range(USERS)] if kind.startswith("user") else everything
        names = chance.sample(pool, chance.randrange(1, 5) if kind.endswith("s") else 1)
        target = {kind: names if kind.endswith("s") else names[0]}
    one_of = frozenset(f"user:{name}" for name in names) if kind.startswith("user") else frozenset(names)
    all_of = chance.sample(NAMES, chance.choice([0, 0, 1, 1, 2, 3]))
    excluded = chance.sample(everything, chance.choice([0, 0, 0, 1, 2, 4]))
    body = {"to": target, "event": CASE, "data": number, "all": all_of, "except": excluded}
    return Case(number, one_of, frozenset(all_of), frozenset(excluded), body)


def _round(setup: Setup, cases: list[Case], chance: random.Random, found: Findings) -> None:
    """Push the cases while some clients are away, and compare what each client received."""
    node, replicas, listeners = setup.node, setup.replicas, setup.listeners
    start = len(node.journal.entries)
    away = {each.client.id for each in chance.sample(listeners, AWAY)}
    for each in listeners:
        if each.client.id in away:
            each.client.close_engine(chance.choice(replicas).url)
    wait_until(lambda: away <= _ids(node, start, "disconnect"), "the clients are away")
    for part in _parts(cases, chance):
        _push(chance.choice(replicas), part)
    end = f"{END}{cases[0].number}"
    assert replicas[0].backend.broadcast(end).status == 200
    everyone = {each.client.id for each in listeners}
    wait_until(
        lambda: everyone <= _ids(node, start, "event", event=end),
        "every client has the last message of the round",
        seconds=ROUND_SECONDS,
    )
    entries = node.journal.entries[start:]
    found.failed_recoveries += sum(entry.get("event") == "recovery:failed" for entry in entries)
    for each in listeners:
        received = [
            entry["args"][0]
            for entry in entries
            if entry["id"] == each.client.id and entry["type"] == "event" and entry["event"] == CASE
        ]
        found.deliveries += len(received)
        found.recovered += len(received) if each.client.id in away else 0
        found.wrong += _differences(each, cases, received)


def _parts(cases: list[Case], chance: random.Random) -> Iterable[list[Case]]:
    """Yield the cases in their order, in batches and one by one."""
    rest = list(cases)
    while rest:
        size = chance.choice([1, 5, 40])
        yield rest[:size]
        rest = rest[size:]


def _push(replica: GatewayProcess, cases: list[Case]) -> None:
    if len(cases) > 1:
        answer = replica.backend.post("/batch", {"messages": [case.body for case in cases]})
        assert answer.status == 200, answer
        assert len(answer.body["results"]) == len(cases)
        return
    (case,) = cases
    fields = {name: value for name, value in case.body.items() if name != "to"}
    target = case.body["to"]
    path, address = "/broadcast", dict[str, Any]()
    if target != "everyone":
        ((kind, names),) = target.items()
        path = {"user": f"/emit/user/{names}", "users": "/emit/users"}.get(kind, "/emit/room")
        address = {} if kind == "user" else target
    answer = replica.backend.post(path, address | fields)
    assert answer.status == 200, answer


def _differences(listener: Listener, cases: list[Case], received: list[int]) -> list[str]:
    expected = [case.number for case in cases if case.is_for(listener.names)]
    if received == expected:
        return []
    missing, extra = Counter(expected) - Counter(received), Counter(received) - Counter(expected)
    named = {case.number: case for case in cases}
    what = f"client {listener.client.id} in {sorted(listener.names)}"
    return [
        *(f"{what} missed {named[number].body}" for number in missing),
        *(f"{what} got {named[number].body} {times} times too often" for number, times in extra.items()),
        *([] if missing or extra else [f"{what} got messages in another order"]),
    ]


def _ids(node: NodeClients, start: int, kind: str, **fields: Any) -> set[str]:
    return {
        entry["id"]
        for entry in node.journal.entries[start:]
        if entry["type"] == kind and all(entry.get(name) == value for name, value in fields.items())
    }
