"""Warnings: what is allowed and seldom meant."""

from __future__ import annotations

import pytest

from gateway.events import warnings
from tests.unit.events.loading import in_namespace, load

FORGEABLE = "others get data of the client alone and cannot know the sender; add $user or $sid to it"


def of(members: str) -> list[str]:
    return [each.removeprefix("namespaces./.") for each in warnings(load(in_namespace(members)))]


def of_entry(text: str) -> list[str]:
    return of(f"    rooms: [{{match: a, send: anyone}}]\n    client_events: {{e: {{{text}}}}}\n")


@pytest.mark.parametrize(
    ("text", "warns"),
    [
        ("emit: [{to: {room: a}, event: x, data: $0}]", True),
        ("emit: [{to: {room: a}, event: x, data: {text: $0.text, at: $now}}]", True),
        ("emit: [{to: [self, {room: a}], event: x, args: [$0, $1]}]", True),
        ("emit: [{to: {room: a}, event: x, data: {text: $0.text, from: $user}}]", False),
        ("emit: [{to: {room: a}, event: x, args: [$0, $sid]}]", False),
        ("emit: [{to: self, event: x, data: $0}]", False),
        ("emit: [{to: {room: a}, event: x, data: {typing: true}}]", False),
        ("emit: [{to: {room: a}, event: x}]", False),
        ("call: app, emit: [{to: {room: a}, event: x, data: $0}]", False),
    ],
)
def test_data_of_the_client_alone_is_a_warning(text: str, warns: bool) -> None:
    assert of_entry(text) == ([f"client_events.e.emit.0: {FORGEABLE}"] if warns else [])


def of_presence(text: str) -> list[str]:
    return warnings(load(f"version: 1\npresence: {{{text}}}"))


def of_announcement(when: str, to: str) -> list[str]:
    return of_presence(f"announce: [{{when: {when}, namespace: /, to: {to}, event: x}}]")


def test_presence_that_notifies_no_side_is_a_warning() -> None:
    assert of_presence("offline_after_seconds: 5") == [
        "presence: it has neither notify nor announce, so that no side is notified"
    ]
    assert of_presence("notify: app") == []


@pytest.mark.parametrize("to", ["everyone", "[{own_rooms: 'org:*'}, everyone]"])
def test_announcement_to_everyone_is_a_warning(to: str) -> None:
    for when in ("online", "offline"):
        assert of_announcement(when, to) == [
            "presence.announce.0.to: every client of the namespace is notified of every user"
        ]


def test_announcement_to_the_user_who_is_offline_is_a_warning() -> None:
    assert of_announcement("offline", "{user: $user}") == [
        "presence.announce.0.to: a user who is offline has no connection that could get it"
    ]
    assert of_announcement("offline", "[{user: $user}, {room: lobby}]") == []
    assert of_announcement("offline", "{user: '42'}") == []
    assert of_announcement("online", "{user: $user}") == []


@pytest.mark.parametrize(
    ("each", "warns"), [("{id: $sub, mail: $email}", True), ("$email", True), ("{id: $user}", False)]
)
def test_list_of_online_users_with_addresses_is_a_warning(each: str, warns: bool) -> None:
    sentence = "online_users.each: every client of the namespace gets the e-mail addresses of all others"

    assert of(f"    online_users: {{event: x, each: {each}}}") == ([sentence] if warns else [])


def test_data_of_the_client_alone_is_a_warning_beside_notify() -> None:
    text = "notify: app, emit: [{to: {room: a}, event: x, data: $0}]"

    assert of_entry(text) == [f"client_events.e.emit.0: {FORGEABLE}"]


def test_patterns_are_examined_too() -> None:
    text = "    client_events: {'x*': {emit: [{to: {room: a}, event: x, data: $0}]}}\n"

    assert of(text) == [f"client_events.x*.emit.0: {FORGEABLE}"]


def test_joining_every_room_is_a_warning() -> None:
    assert of("    rooms: [{match: '*', join: anyone}]\n") == [
        "rooms.0.join: any client may join every room but those with a reserved prefix"
    ]
    assert of("    rooms: [{match: 'a*', join: anyone}, {match: '*', join: {call: app}}]\n") == []


@pytest.mark.parametrize(
    ("first", "second", "warns"),
    [
        ("*", "lobby", True),
        ("*", "a*b", True),
        ("a*", "ab*", True),
        ("lobby", "lobby", True),
        ("user:*", "user:4*", True),
        ("*", "user:*", False),
        ("*", "~*", False),
        ("ab*", "a*", False),
        ("a*b", "axb", False),
        ("lobby", "*", False),
    ],
)
def test_rule_that_is_never_reached_is_a_warning(first: str, second: str, warns: bool) -> None:
    found = of(f"    rooms: [{{match: '{first}', send: members}}, {{match: '{second}', send: anyone}}]\n")

    assert found == (
        ["rooms.1.match: the rule is never reached, because rule 0 matches all its rooms"] if warns else []
    )
