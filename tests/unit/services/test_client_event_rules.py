"""Rules of client events: no client joins a reserved room, whatever the catalogue says; arguments; recipients."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import ClientEventRejected
from gateway.domain.event_catalogue import (
    RESERVED_PREFIXES,
    Allow,
    AllowKind,
    Arguments,
    Emission,
    Glob,
    NamespaceEvents,
    RoomRule,
    Target,
    TargetKind,
)
from gateway.domain.names import check_room
from gateway.domain.templates import EventContext, Reference
from gateway.domain.webhooks import Webhook, WebhookAnswer, WebhookEmission, parse_may
from gateway.hub import Connection
from gateway.services.client_events.answers import AnswerInvalid, PlannedAnswer, plan_answer
from gateway.services.client_events.rules import Plan, check_arguments, plan, recipients_of
from tests.unit.hub.transports import connection, identity
from tests.unit.services.catalogue import EVERYONE, OTHERS, SELF, entry, rule, template

TWICE = bytes(9)
SID = "~abcdefghijklmnopqrst"
OTHER_SID = "~ABCDEFGHIJKLMNOPQRST"
EVERYTHING = Allow(AllowKind.ANYONE)

PREFIXES = st.sampled_from(["", *RESERVED_PREFIXES, "chat:", "User:", "user", "*", "?ser:", "[u]ser:"])
NAMES = st.builds(str.__add__, PREFIXES, st.text(max_size=12)) | st.just(OTHER_SID) | st.just("~" + "x" * 20)
VALUES = (
    NAMES
    | st.integers()
    | st.none()
    | st.lists(NAMES, max_size=4)
    | st.dictionaries(NAMES, NAMES, max_size=2)
)
ALLOWS = st.sampled_from(
    [
        Allow(AllowKind.NEVER),
        EVERYTHING,
        Allow(AllowKind.MEMBERS),
        Allow(AllowKind.ROOMS, (Glob("*"), Glob("user:*"))),
        Allow(AllowKind.CALL, webhook="app"),
    ]
)
RULES = st.builds(
    RoomRule, st.builds(Glob, NAMES | st.builds("{}*".format, PREFIXES)), join=ALLOWS, send=ALLOWS
)
NAMESPACES = st.builds(NamespaceEvents, rooms=st.lists(RULES, max_size=4).map(tuple), broadcast=ALLOWS)


def member(*rooms: str) -> Connection:
    made, _ = connection(SID, "alice")
    made.identity = identity("alice", *rooms)
    made.rooms = made.identity.rooms | {SID}
    return made


def context(*arguments: object) -> EventContext:
    return EventContext(arguments, SID, identity("alice"), {}, 0.0, "id")


def planned(namespace: NamespaceEvents, value: object, **fields: Any) -> Plan | str:
    """Return the plan, or the code of the rejection."""
    try:
        return plan(entry("event", **fields), namespace, member("org:7"), context(value))
    except ClientEventRejected as error:
        return error.code


@given(NAMESPACES, VALUES)
def test_no_catalogue_lets_a_client_join_a_reserved_room(namespace: NamespaceEvents, value: object) -> None:
    found = planned(namespace, value, join="$0")

    if isinstance(found, Plan):
        assert not any(room.startswith(RESERVED_PREFIXES) for room in found.join)
        assert {room for room, _ in found.asks} <= set(found.join)
        assert [check_room(room) for room in found.join] == list(found.join)
    else:
        assert found in {"invalid_payload", "not_allowed", "not_a_member"}


@given(NAMESPACES, VALUES)
def test_no_catalogue_lets_a_client_leave_what_the_token_grants(
    namespace: NamespaceEvents, value: object
) -> None:
    found = planned(namespace, value, leave="$0")

    if isinstance(found, Plan):
        assert not {"org:7", "user:alice", SID} & set(found.leave)


@given(NAMESPACES, VALUES, st.sampled_from([TargetKind.ROOMS, TargetKind.USERS, TargetKind.SIDS]))
def test_client_reaches_reserved_rooms_only_by_a_rule_that_names_the_prefix(
    namespace: NamespaceEvents, value: object, kind: TargetKind
) -> None:
    emission = Emission((Target(kind, Reference("0")),), "message")
    try:
        found = recipients_of(emission, namespace, member(), member().rooms, context(value))
    except ClientEventRejected:
        return
    assert found.rooms
    for room in found.rooms:
        decided = namespace.rule_for(room)
        assert decided is not None
        for prefix in RESERVED_PREFIXES:
            if room.startswith(prefix):
                assert decided.match.pattern.startswith(prefix)


@pytest.mark.parametrize(
    ("arguments", "given_arguments", "message"),
    [
        (Arguments((None,)), (), "the event takes 1 arguments, not 0"),
        (Arguments((None, None), 1), (1, 2, 3), "the event takes 1 to 2 arguments, not 3"),
        (Arguments(), ({"a": [float("inf")]},), "$0: NaN and Infinity are not JSON"),
        (Arguments(), tuple([bytes(9)] * 11), "the event holds more than 10 buffers"),
        (Arguments(), (TWICE, [TWICE]), "the event holds an attachment twice"),
        (Arguments(), (b"", {"a": [{"_placeholder": 1}]}), "a member '_placeholder' stands beside buffers"),
        (Arguments(), ({"\ud800": 1},), "$0: a text holds a lone surrogate"),
    ],
)
def test_message_of_invalid_arguments_names_the_path(
    arguments: Arguments, given_arguments: tuple[object, ...], message: str
) -> None:
    with pytest.raises(ClientEventRejected) as rejected:
        check_arguments(arguments, given_arguments)

    assert (rejected.value.code, rejected.value.message) == ("invalid_payload", message)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ((SELF,), {"rooms": (SID,)}),
        ((EVERYONE,), {"everyone": True}),
        ((OTHERS,), {"others": True, "without_sender": True}),
        ((OTHERS, SELF), {"rooms": (SID,), "others": True}),
        ((Target(TargetKind.OWN_ROOMS, glob=Glob("org:*")),), {"rooms": ("org:7",)}),
        ((Target(TargetKind.OWN_ROOMS, glob=Glob("*")),), {"rooms": ()}),
        ((Target(TargetKind.USERS, template([42, "bob", True, ""])),), {"rooms": ("user:42", "user:bob")}),
        ((Target(TargetKind.USERS, template(["é", "e\u0301"])),), {"rooms": ("user:é",)}),
        ((Target(TargetKind.ROOMS, template(["user:é", "user:e\u0301"])),), {"rooms": ("user:é",)}),
        ((Target(TargetKind.SIDS, template([OTHER_SID, "lobby", "~short"])),), {"rooms": (OTHER_SID,)}),
    ],
)
def test_recipients_of_an_emission(targets: tuple[Target, ...], expected: dict[str, object]) -> None:
    rules = (rule("user:*", send=EVERYTHING), rule("~*", send=EVERYTHING))
    namespace = NamespaceEvents(rooms=rules, broadcast=EVERYTHING)
    sender = member("org:7")

    found = recipients_of(Emission(targets, "message"), namespace, sender, sender.rooms, context())

    shown = {name: getattr(found, name) for name in ("rooms", "everyone", "others", "without_sender")}
    assert shown == {"rooms": (), "everyone": False, "others": False, "without_sender": False} | expected


# --- answers of webhooks ---


@pytest.mark.parametrize(
    ("scopes", "to", "allowed"),
    [
        (["emit:room"], {"sid": "~Us0vkvkHVoWsjT_pvFDI"}, False),
        (["emit:room"], {"sid": "Us0vkvkHVoWsjT_pvFDI"}, False),
        (["emit:room"], {"sid": "org:7"}, False),
        (["emit:room"], {"room": "~Us0vkvkHVoWsjT_pvFDI"}, False),
        (["emit:room"], {"rooms": ["org:7", "~Us0vkvkHVoWsjT_pvFDI"]}, False),
        (["emit:room", "emit:user:4*"], {"sid": "~Us0vkvkHVoWsjT_pvFDI"}, False),
        (["emit:user"], {"sid": "~Us0vkvkHVoWsjT_pvFDI"}, True),
        (["emit:user"], {"sid": "Us0vkvkHVoWsjT_pvFDI"}, True),
        (["emit:room"], {"room": "org:7"}, True),
        ([], {"sid": "~own"}, True),
    ],
)
def test_answer_reaches_the_sid_of_another_client_only_with_the_scope_for_every_user(
    scopes: list[str], to: object, allowed: bool
) -> None:
    webhook = Webhook(id="app", url="https://app.example.com/", may=tuple(map(parse_may, scopes)))
    own, _ = connection("~own")

    def planned() -> PlannedAnswer:
        return plan_answer(
            WebhookAnswer(emit=(WebhookEmission("hello", (), to),)),
            webhook="app",
            namespace=NamespaceEvents(),
            connection=own,
            event_id="e",
            may=lambda _, scope, target: webhook.allows(scope, target),
        )

    if allowed:
        assert len(planned().messages) == 1
    else:
        with pytest.raises(AnswerInvalid, match="may not emit to others"):
            planned()
