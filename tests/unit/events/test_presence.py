"""``notify``, ``presence`` and ``online_users``: what files with them become, and their mistakes."""

from __future__ import annotations

import re
from typing import Final

import pytest

from gateway.domain.event_catalogue import (
    Announcement,
    Glob,
    OnlineUsers,
    PresenceNotices,
    Target,
    TargetKind,
)
from gateway.domain.templates import ArrayTemplate, Literal, ObjectTemplate, Reference
from tests.support.paths import ROOT
from tests.unit.events.loading import entry, in_namespace, load, mistakes, namespace

KNOWN: Final = "there are $user, $now, $id, $version, $since"
OF_CONNECTIONS: Final = "there are $sid, $user, $sub, $email"


def presence(text: str) -> PresenceNotices:
    found = load(f"version: 1\npresence: {{{text}}}").presence
    assert found is not None
    return found


def presence_mistakes(text: str) -> list[str]:
    """Return the mistakes of ``presence``, without the part of the path and the line that all share."""
    found = mistakes(f"version: 1\npresence: {{{text}}}")
    return [each.removeprefix("presence.").removesuffix(" (line 2)") for each in found]


def list_mistakes(text: str) -> list[str]:
    found = mistakes(in_namespace(f"    online_users: {{{text}}}"))
    return [each.removeprefix("namespaces./.online_users.").removesuffix(" (line 4)") for each in found]


def test_notify_stands_beside_every_other_effect() -> None:
    found = entry(
        "args: [{}], notify: billing, dedupe: $0.id, join: $0.room, emit: [{to: self, event: x}], ack: {saved: true}, "
        "user_rate: 5, allow: ['role:*']"
    )

    assert (found.notify, found.call, found.ack) == ("billing", None, Literal({"saved": True}))
    assert not found.only_answers


def test_without_the_keys_nothing_is_notified() -> None:
    catalogue = load("version: 1\nnamespaces: {/: {}}")

    assert catalogue.presence is None
    assert catalogue.namespaces["/"].online_users is None


def test_presence_has_defaults() -> None:
    assert presence("") == PresenceNotices(offline_after_seconds=10.0, notify=None, announce=())


def test_every_webhook_is_known_by_the_catalogue() -> None:
    catalogue = load(
        "version: 1\npresence: {notify: app}\nnamespaces: {/: {client_events: {e: {notify: billing}}}}"
    )

    assert catalogue.webhooks() == {"app", "billing"}


def test_announcements_keep_their_order_and_may_share_an_event() -> None:
    found = presence(
        "offline_after_seconds: 0.5, announce: ["
        "{when: online, namespace: /chat, to: everyone, event: status, data: {user: $user, at: $now, online: true}}, "
        "{when: offline, namespace: /chat, to: everyone, event: status, args: [$user, [$since, $version], $id]}, "
        "{when: offline, namespace: /, to: [{room: lobby}, {rooms: [a, 'user:7']}, {own_rooms: 'org:*'}, "
        "{user: $user}, {user: '7'}], event: 'user:offline'}]"
    )

    assert found.offline_after_seconds == 0.5
    assert found.announce == (
        Announcement(
            True,
            "/chat",
            (Target(TargetKind.EVERYONE),),
            "status",
            (
                ObjectTemplate(
                    (("user", Reference("user")), ("at", Reference("now")), ("online", Literal(True)))
                ),
            ),
        ),
        Announcement(
            False,
            "/chat",
            (Target(TargetKind.EVERYONE),),
            "status",
            (
                Reference("user"),
                ArrayTemplate((Reference("since"), Reference("version"))),
                Reference("id"),
            ),
        ),
        Announcement(
            False,
            "/",
            (
                Target(TargetKind.ROOMS, Literal("lobby")),
                Target(TargetKind.ROOMS, Literal(["a", "user:7"])),
                Target(TargetKind.OWN_ROOMS, glob=Glob("org:*")),
                Target(TargetKind.USERS, Reference("user")),
                Target(TargetKind.USERS, Literal("7")),
            ),
            "user:offline",
        ),
    )


def test_list_of_online_users_has_defaults() -> None:
    found = namespace("    online_users: {event: onlineUsers, each: {socketId: $sid, userId: $sub}}")

    each = ObjectTemplate((("socketId", Reference("sid")), ("userId", Reference("sub"))))
    assert found.online_users == OnlineUsers("onlineUsers", each, every_seconds=1.0, max_entries=1_000)


def test_list_of_online_users_with_every_key() -> None:
    found = namespace("    online_users: {event: who, each: $email, every_seconds: 2.5, max: 20}")

    assert found.online_users == OnlineUsers("who", Reference("email"), every_seconds=2.5, max_entries=20)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("offline_after_second: 1", "offline_after_second: is an unknown key; did you mean offline_after_seconds?"),
        ("offline_after_seconds: -1", "offline_after_seconds: is not a number of seconds from 0 to 3,600"),
        ("offline_after_seconds: 3601", "offline_after_seconds: is not a number of seconds from 0 to 3,600"),
        ("offline_after_seconds: 10s", "offline_after_seconds: is text, not a number"),
        ("notify: nowhere", "notify: is not the id of a webhook in GATEWAY_WEBHOOKS; there are app, billing"),
        ("notify: {call: app}", "notify: is a mapping, not text"),
        ("announce: {}", "announce: is a mapping, not a list"),
        ("announce: [online]", "announce.0: is text, not a mapping"),
        (
            "announce: [" + "{when: online, namespace: /, to: everyone, event: x}, " * 101 + "]",
            "announce: has 101 announcements; at most 100 are possible",
        ),
    ],
)  # fmt: skip
def test_mistakes_of_presence(text: str, mistake: str) -> None:
    assert presence_mistakes(text) == [mistake]


def test_announcement_lists_what_it_lacks() -> None:
    assert presence_mistakes("announce: [{}]") == [
        "announce.0: has no when",
        "announce.0: has no namespace",
        "announce.0: has no to",
        "announce.0: has no event",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("when: gone", "when: is not one of online, offline; did you mean online?"),
        ("namespace: chat", "namespace: a namespace starts with a slash"),
        ("namespace: /cha", "namespace: is not in GATEWAY_NAMESPACES; did you mean /chat?"),
        ("event: ''", "event: an event name is not empty"),
        ("event: authenticated", "event: the event name 'authenticated' is reserved by the gateway"),
        ("event: disconnect", "event: the event name 'disconnect' is reserved by Socket.IO"),
        ("data: 1, args: []", "args: stands beside data: remove one of the two"),
        ("args: [" + "1, " * 17 + "]", "args: has more than 16 arguments"),
        ("volatile: true", "volatile: is an unknown key"),
        ("data: $0", f"data: $0 is unknown here; {KNOWN}"),
        ("data: {a: [$sid]}", f"data.a.0: $sid is unknown here; {KNOWN}"),
        ("data: $data.x", f"data: $data is unknown here; {KNOWN}"),
        ("data: $error.code", f"data: $error is unknown here; {KNOWN}"),
        ("data: $user.name", "data: $user has no members"),
        ("to: self", "to: is neither everyone nor a mapping with one of own_rooms, room, rooms, user"),
        ("to: 7", "to: is neither everyone nor a mapping with one of own_rooms, room, rooms, user"),
        ("to: []", "to: has 0 recipients; 1 to 100 are possible"),
        ("to: {}", "to: needs exactly one of own_rooms, room, rooms, user"),
        ("to: {room: a, user: b}", "to: needs exactly one of own_rooms, room, rooms, user"),
        ("to: {sid: $user}", "to.sid: is an unknown key"),
        ("to: {room: $user}", "to: a room is named by a text without a reference; own_rooms are those of the user"),
        ("to: {rooms: [a, $id]}", "to: a room is named by a text without a reference; own_rooms are those of the user"),
        ("to: {room: $0}", f"to.room: $0 is unknown here; {KNOWN}"),
        ("to: {user: $id}", "to: user is a user id or $user"),
        ("to: {user: 7}", "to.user: is a number, not text"),
        ("to: {own_rooms: '~*'}", "to: rooms of sids are not known here; use {user: $user}"),
        ("to: {own_rooms: ''}", "to.own_rooms: a room name is not empty"),
        ("to: [everyone, {room: ''}]", "to.1.room: a room name is not empty"),
        ("to: [" + "{rooms: [a, b, c]}, " * 34 + "]", "to: names 102 rooms; at most 100 are possible"),
    ],
)  # fmt: skip
def test_mistakes_of_an_announcement(text: str, mistake: str) -> None:
    changed = text.partition(":")[0]
    others = {"when": "online", "namespace": "/", "to": "everyone", "event": "x"}
    members = [f"{name}: {value}" for name, value in others.items() if name != changed]

    found = presence_mistakes(f"announce: [{{{', '.join([*members, text])}}}]")

    assert [each.removeprefix("announce.0.") for each in found] == [mistake]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("event: x, each: $user, evry_seconds: 1", "evry_seconds: is an unknown key; did you mean every_seconds?"),
        ("event: '', each: $user", "event: an event name is not empty"),
        ("event: x, each: $id", f"each: $id is unknown here; {OF_CONNECTIONS}"),
        ("event: x, each: {a: $now}", f"each.a: $now is unknown here; {OF_CONNECTIONS}"),
        ("event: x, each: {a: $data.name}", f"each.a: $data is unknown here; {OF_CONNECTIONS}"),
        ("event: x, each: $0", f"each: $0 is unknown here; {OF_CONNECTIONS}"),
        ("event: x, each: $sub.a", "each: $sub has no members"),
        (f"event: x, each: {'x' * 1_023}", "each: is larger than 1,024 bytes as JSON"),
        ("event: x, each: $user, every_seconds: 0.5", "every_seconds: is not a number of seconds from 1 to 3,600"),
        ("event: x, each: $user, every_seconds: true", "every_seconds: is true or false, not a number"),
        ("event: x, each: $user, max: 0", "max: is not an integer from 1 to 1000"),
        ("event: x, each: $user, max: 1001", "max: is not an integer from 1 to 1000"),
    ],
)  # fmt: skip
def test_mistakes_of_a_list_of_online_users(text: str, mistake: str) -> None:
    assert list_mistakes(text) == [mistake]


def test_list_of_online_users_needs_event_and_each() -> None:
    assert mistakes(in_namespace("    online_users: {}")) == [
        "namespaces./.online_users: has no event (line 4)",
        "namespaces./.online_users: has no each (line 4)",
    ]


def test_examples_of_the_reference_are_read() -> None:
    page = (ROOT / "docs/reference/events-file.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    found = [block for block in blocks if block.startswith(("presence:", "namespaces:"))]

    assert [mistakes(f"version: 1\n{block}") for block in found] == [[], []]


def test_another_presence_part_replaces_the_former_one() -> None:
    """As SIGHUP does: what the file does not have any more is gone."""
    announcement = "announce: [{when: online, namespace: /, to: everyone, event: x}]"
    before, after = (
        presence(f"notify: app, {announcement}"),
        presence("offline_after_seconds: 3, notify: billing"),
    )

    assert before != after
    assert (after.offline_after_seconds, after.notify, after.announce) == (3, "billing", ())
    assert before.rules != after.rules
    assert load("version: 1").presence is None
