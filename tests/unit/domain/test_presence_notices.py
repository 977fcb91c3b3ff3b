"""Announcements of online and offline users, and lists of online users: which messages they become."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.domain.event_catalogue import (
    MAX_LIST_BYTES,
    Announcement,
    Glob,
    OnlineUsers,
    PresenceNotices,
    Target,
    TargetKind,
)
from gateway.domain.identity import Identity
from gateway.domain.messages import Address, Message
from gateway.domain.presence import PresenceChange, PresenceConsumer, PresenceRules, UserList
from gateway.domain.templates import ConnectionContext, Literal, ObjectTemplate, Reference

EVERYONE = Target(TargetKind.EVERYONE)
ORGANISATION = Target(TargetKind.OWN_ROOMS, glob=Glob("org:*"))
ANY_ROOM = Target(TargetKind.OWN_ROOMS, glob=Glob("*"))
ONLINE = PresenceChange(
    user="42",
    is_online=True,
    version=1795262400123,
    since=1795262400.0,
    connections=1,
    partition=3,
    addresses=(
        Address("/", None),
        Address("/", "user:42"),
        Address("/", "org:7"),
        Address("/", "lobby"),
        Address("/chat", None),
        Address("/chat", "org:8"),
        Address("/chat", "match"),
    ),
)


def announced(*to: Target, change: PresenceChange = ONLINE) -> Message | None:
    """Return the message of an announcement in ``/`` about users that become online."""
    announcement = Announcement(True, "/", to, "user:online")
    return announcement.message(change, message_id="presence:42:1:0", time=1795262401.5)


def rooms(*to: Target) -> tuple[str, ...] | None:
    message = announced(*to)
    return None if message is None else message.rooms


def test_announcement_knows_user_times_version_and_its_id() -> None:
    names = ("user", "now", "since", "version", "id")
    data = ObjectTemplate(tuple((name, Reference(name)) for name in names))
    announcement = Announcement(True, "/chat", (EVERYONE,), "came", (data, Literal("é")))

    message = announcement.message(ONLINE, message_id="presence:42:1:0", time=1795262401.5)

    assert message is not None
    assert message._replace(arguments=()) == Message("presence:42:1:0", "/chat", (), "came", ())
    assert [json.loads(text) for text in message.arguments] == [
        {
            "user": "42",
            "now": "2026-11-21T12:00:01.500Z",
            "since": "2026-11-21T12:00:00.000Z",
            "version": 1795262400123,
            "id": "presence:42:1:0",
        },
        "é",
    ]


def test_announcement_is_about_one_direction() -> None:
    offline = replace(ONLINE, is_online=False)
    announcement = Announcement(False, "/", (EVERYONE,), "user:offline")

    assert announced(EVERYONE, change=offline) is None
    assert announcement.message(ONLINE, message_id="m", time=0.0) is None
    assert announcement.message(offline, message_id="m", time=0.0) == Message(
        "m", "/", (), "user:offline", ()
    )


def test_rooms_of_claims_are_known_whatever_namespace_the_user_came_to_first() -> None:
    assert rooms(ORGANISATION) == ("org:7", "org:8")


def test_more_claims_may_grant_rooms() -> None:
    announcement = Announcement(True, "/", (ANY_ROOM,), "came", claim_prefixes=("org:", "mat"))

    message = announcement.message(ONLINE, message_id="m", time=0.0)

    assert message is not None
    assert message.rooms == ("lobby", "match")


def test_joined_rooms_are_those_of_the_namespace() -> None:
    assert rooms(ANY_ROOM) == ("lobby",)


def test_each_room_is_named_once() -> None:
    everything = (
        Target(TargetKind.ROOMS, Literal("lobby")),
        Target(TargetKind.ROOMS, Literal(["news", "org:7"])),
        ORGANISATION,
        Target(TargetKind.USERS, Reference("user")),
        Target(TargetKind.USERS, Literal("1")),
        ANY_ROOM,
    )

    assert rooms(*everything) == ("lobby", "news", "org:7", "org:8", "user:42", "user:1")


def test_everyone_includes_every_room() -> None:
    assert rooms(ORGANISATION, EVERYONE) == ()


def test_announcement_to_no_room_is_no_message() -> None:
    assert rooms(Target(TargetKind.OWN_ROOMS, glob=Glob("tenant:*"))) is None


def test_entry_of_a_list_has_the_identity_of_its_connection() -> None:
    each = ObjectTemplate(tuple((name, Reference(name)) for name in ("sid", "user", "sub", "email")))
    identity = Identity("42", frozenset(), subject=42)

    entry = OnlineUsers("onlineUsers", each).entry(ConnectionContext("~sid", identity))

    assert json.loads(entry) == {"sid": "~sid", "user": "42", "sub": 42, "email": None}


@pytest.mark.parametrize(("length", "is_listed"), [(320, True), (321, False)])
def test_text_that_is_too_long_for_an_address_is_not_listed(length: int, *, is_listed: bool) -> None:
    email = "a" * length
    identity = Identity("42", frozenset(), email=email)

    entry = OnlineUsers("x", Reference("email")).entry(ConnectionContext("~sid", identity))

    assert json.loads(entry) == (email if is_listed else None)


def test_list_is_cut_at_its_size() -> None:
    entry = json.dumps("x" * 1_021)  # 1 023 bytes, and a comma
    users = UserList(1, 300, (entry,) * 300)

    listed, mark = OnlineUsers("x", Reference("user")).arguments(users)

    assert len(json.loads(listed)) == 256
    assert len(listed) == MAX_LIST_BYTES + 1
    assert json.loads(mark) == {"truncated": True}


@pytest.mark.parametrize(
    ("users", "arguments"),
    [
        (UserList(1, 0), ("[]",)),
        (UserList(2, 2, ('{"a":1}', '"b"')), ('[{"a":1},"b"]',)),
        (UserList(3, 3, ("1", "2")), ("[1,2]", '{"truncated":true}')),
        (UserList(4, 3, ("1", "2", "3")), ("[1,2]", '{"truncated":true}')),
    ],
)
def test_list_says_whether_it_was_cut(users: UserList, arguments: tuple[str, ...]) -> None:
    assert OnlineUsers("onlineUsers", Reference("sid"), max_entries=2).arguments(users) == arguments


@pytest.mark.parametrize(
    ("notify", "announce", "consumers"),
    [
        ("app", False, {PresenceConsumer.WEBHOOK}),
        (None, True, {PresenceConsumer.CLIENTS}),
        ("app", True, {PresenceConsumer.WEBHOOK, PresenceConsumer.CLIENTS}),
    ],
)
def test_rules_have_the_consumers_of_the_catalogue(
    notify: str | None, announce: bool, consumers: set[PresenceConsumer]
) -> None:
    announcements = (Announcement(True, "/", (EVERYONE,), "came"),) if announce else ()

    assert PresenceNotices(3.0, notify, announcements).rules == PresenceRules(3.0, frozenset(consumers))


def test_without_consumers_there_are_no_rules() -> None:
    assert PresenceNotices().rules is None
