"""No path leads a client into a room that only tokens grant: joins, answers of webhooks, repeats, recovery, refresh.

Catalogue, scopes of the webhook, names and the order of the steps are generated. One client does what it can to get the
messages of another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.auth.claims import ClaimRules, identity_of
from gateway.domain.errors import TokenRejected
from gateway.domain.event_catalogue import (
    RESERVED_PREFIXES,
    Allow,
    AllowKind,
    EventCatalogue,
    Glob,
    NamespaceEvents,
    RoomRule,
)
from gateway.domain.webhooks import Webhook, WebhookAnswer, parse_may
from gateway.hub import Connection
from tests.unit.services.catalogue import ANYONE, RecordingWebhooks, ask, entry
from tests.unit.services.harness import ConnectedClient, Services
from tests.unit.services.senders import Sender

VICTIM = "victim"
VICTIMS_SID = "<the sid of the victim>"
"""Stands for the sid, which is known only when the steps run."""
NEVER_JOINED = ("user:", "~")
JOINED_IF_NAMED = ("org:", "tenant:", "role:")
"""Rooms with these prefixes are joined only by an answer whose webhook has a scope that begins so."""

PREFIXES = st.sampled_from(["", *RESERVED_PREFIXES, "chat:", "User:", "user", "org", "*", "?ser:", "[u]ser:"])
NAMES = st.sampled_from([VICTIMS_SID, "user:victim", "role:admin", "org:7", "lobby"]) | st.builds(
    str.__add__, PREFIXES, st.text(max_size=8)
)
VALUES = NAMES | st.lists(NAMES, max_size=3) | st.integers() | st.none()
ALLOWS = st.sampled_from(
    [ANYONE, ask(), Allow(AllowKind.MEMBERS), Allow(AllowKind.ROOMS, (Glob("*"), Glob("user:*")))]
)
RULES = st.builds(RoomRule, st.builds(Glob, NAMES | st.builds("{}*".format, PREFIXES)), join=ALLOWS)
SCOPES = st.sampled_from(
    ["join", "join:*", "join:user:*", "join:~*", "join:org:*", "join:org*", "join:role:a*", "join:*:*"]
) | st.builds("join:{}".format, NAMES.filter(bool))
GRANTS = st.frozensets(st.sampled_from(["org:1", "role:staff", "lobby"]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), VALUES),
        st.tuples(st.just("join_once"), VALUES),
        st.tuples(st.just("ask"), st.lists(NAMES, max_size=3)),
        st.tuples(st.just("repeat_elsewhere"), st.none()),
        st.tuples(st.just("resume"), GRANTS),
        st.tuples(st.just("refresh"), GRANTS),
    ),
    max_size=6,
)


class ScopedWebhooks(RecordingWebhooks):
    """Allows every join, and answers an event with joins of the rooms in its argument, as far as ``may`` allows it."""

    def __init__(self, scopes: Sequence[str]) -> None:
        super().__init__(answer=_join_rooms_of_the_argument)
        self._webhook = Webhook(id="app", url="https://app.example.com/", may=tuple(map(parse_may, scopes)))

    def may(self, webhook: str, scope: str, target: str | None) -> bool:
        return self._webhook.allows(scope, target)


def _join_rooms_of_the_argument(data: Mapping[str, object]) -> WebhookAnswer:
    if "room" in data:
        return WebhookAnswer()
    arguments: Any = data["args"]
    return WebhookAnswer(join=tuple(arguments[0]))


class Attacker:
    """A client that takes the steps, each of which may fail."""

    def __init__(self, services: Services, victims_sid: str) -> None:
        self._services = services
        self._victims_sid = victims_sid
        self._once: tuple[int, object] = 0, None
        self.clients: list[ConnectedClient] = []
        """All its connections; the last one takes the steps."""

    async def connect(self, *grants: str, pid: str | None = None) -> None:
        client = await self._services.connect_client(self._services.identity("mallory", *grants), pid=pid)
        await client.wait_live()
        self.clients.append(client)

    async def join(self, rooms: object) -> None:
        await self._send("join", self._named(rooms))

    async def join_once(self, rooms: object) -> None:
        self._once = self._once[0] + 1, self._named(rooms)
        await self._send("join_once", *self._once)

    async def ask(self, rooms: object) -> None:
        await self._send("ask", self._named(rooms))

    async def repeat_elsewhere(self, _: None) -> None:
        await self.connect()
        await self._send("join_once", *self._once)

    async def resume(self, grants: frozenset[str]) -> None:
        client = self.clients.pop()
        self._services.disconnector.disconnect(client.connection)
        self._services.client_events.connection_closed(client.connection)
        await self._services.disconnector.flush()
        await self.connect(*grants, pid=client.pid)
        assert self.clients[-1].connection.sid == client.connection.sid

    async def refresh(self, grants: frozenset[str]) -> None:
        identity = self._services.identity("mallory", *grants)
        await self._services.connector.refresh(self.clients[-1].connection, identity)

    async def _send(self, event: str, *arguments: object) -> None:
        client = self.clients[-1]
        await Sender(self._services, client.connection, client.transport).ask_all(event, *arguments)

    def _named(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._named(each) for each in value]
        return self._victims_sid if value == VICTIMS_SID else value


def check_rooms(connection: Connection, scopes: Sequence[str]) -> None:
    """Check the rooms of a connection that its token does not grant."""
    for room in connection.rooms - connection.identity.rooms - {connection.sid}:
        assert not room.startswith(NEVER_JOINED)
        for prefix in JOINED_IF_NAMED:
            assert not room.startswith(prefix) or any(each.startswith(f"join:{prefix}") for each in scopes)


async def run(rules: Sequence[RoomRule], scopes: Sequence[str], steps: Sequence[tuple[str, Any]]) -> None:
    services = Services(webhooks=ScopedWebhooks(scopes))
    entries = [
        entry("join", join="$0"),
        entry("join_once", dedupe="$0", join="$1"),
        entry("ask", call="app"),
    ]
    namespace = NamespaceEvents(rooms=tuple(rules), client_events={each.name: each for each in entries})
    services.client_events.catalogue = EventCatalogue({"/": namespace})
    victim, _ = await services.connect_live(services.identity(VICTIM))
    attacker = Attacker(services, victim.sid)
    try:
        await attacker.connect()
        for action, value in steps:
            await getattr(attacker, action)(value)
            for client in attacker.clients:
                check_rooms(client.connection, scopes)
        for room in (f"user:{VICTIM}", victim.sid):
            await services.push(room, "secret")
        await services.wait_delivered()
        for client in attacker.clients:
            assert "secret" not in client.event_names
    finally:
        await services.client_events.close()
        await services.close()


@settings(deadline=None)
@given(st.lists(RULES, max_size=4), st.lists(SCOPES, max_size=3), STEPS)
@example([RoomRule(Glob("~*"), join=ANYONE)], [], [("join", VICTIMS_SID)])
@example([RoomRule(Glob("user:*"), join=ask())], [], [("join", "user:victim")])
@example([], ["join", "join:user:*", "join:~*"], [("ask", ["user:victim"]), ("ask", [VICTIMS_SID])])
@example([], ["join", "join:*"], [("ask", ["org:7"]), ("ask", ["role:admin"]), ("ask", ["tenant:1"])])
@example([], ["join:org:*"], [("ask", ["org:7"]), ("resume", frozenset()), ("ask", ["role:admin"])])
@example([], [], [("refresh", frozenset({"org:1"})), ("resume", frozenset()), ("join", "org:1")])
@example(
    [RoomRule(Glob("*"), join=ANYONE)],
    [],
    [("join_once", ["lobby", "role:admin"]), ("repeat_elsewhere", None), ("resume", frozenset())],
)
def test_no_path_leads_into_a_room_that_only_tokens_grant(
    rules: list[RoomRule], scopes: list[str], steps: list[tuple[str, Any]]
) -> None:
    asyncio.run(run(rules, scopes, steps))


@given(
    st.dictionaries(st.sampled_from(["rooms", "org_id", "team", "tilde"]), VALUES),
    st.dictionaries(
        st.sampled_from(["rooms", "org_id", "team", "tilde"]),
        st.sampled_from(["", "org:", "team:", "~", "~x"]),
    ),
)
@example({"rooms": ["lobby", "~Us0vkvkHVoWsjT_pvFDI"]}, {})
@example({"tilde": "Us0vkvkHVoWsjT_pvFDI"}, {"tilde": "~"})
def test_no_token_grants_a_room_that_could_be_a_sid(
    claims: dict[str, object], room_claims: dict[str, str]
) -> None:
    rules = ClaimRules(
        audience=frozenset(),
        issuer=frozenset(),
        leeway_seconds=0,
        require_exp=False,
        max_lifetime_seconds=None,
        room_claims=room_claims,
    )
    with suppress(TokenRejected):
        identity, _ = identity_of({"sub": "mallory", **claims}, rules, 0)
        assert not any(room.startswith("~") for room in identity.rooms)
