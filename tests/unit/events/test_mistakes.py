"""Files with mistakes: all are found at once, each with its path and line."""

from __future__ import annotations

from typing import Final

import pytest

from gateway.events.mistakes import MAX_MISTAKES
from tests.unit.events.loading import entry_mistakes, in_namespace, mistakes

RESERVED: Final = "no client joins rooms that begin with one of user: org: tenant: role: ~; remove join"
NEITHER: Final = "clients neither join nor leave rooms that begin with one of user: org: tenant: role: ~"
NO_WEBHOOK: Final = "is not the id of a webhook in GATEWAY_WEBHOOKS"
ROOTS: Final = "there are $0 to $15, $data, $sid, $user, $sub, $email, $now, $id, and $error in on_error"


def test_every_mistake_is_listed_with_path_and_line() -> None:
    text = """\
version: 1
schemas:
  Text: {typ: string}
namespaces:
  /chat:
    error_evnt: error
    rooms:
      - {match: "user:*", join: anyone}
    client_events:
      joinRoom:
        join: $0
        emit:
          - to: {roon: $0}
            event: ''
      send:
        call: nowhere
        rates: 5
  /other: {}
"""

    assert mistakes(text) == [
        "schemas.Text.typ: is an unknown key; did you mean type? (line 3)",
        "namespaces./chat.error_evnt: is an unknown key; did you mean error_event? (line 6)",
        f"namespaces./chat.rooms.0.join: {RESERVED} (line 8)",
        "namespaces./chat.client_events.joinRoom.emit.0.to.roon: is an unknown key; did you mean room? (line 13)",
        "namespaces./chat.client_events.joinRoom.emit.0.event: an event name is not empty (line 14)",
        f"namespaces./chat.client_events.send.call: {NO_WEBHOOK}; there are app, billing (line 16)",
        "namespaces./chat.client_events.send.rates: is an unknown key; did you mean rate? (line 17)",
        "namespaces./other: is not in GATEWAY_NAMESPACES (line 18)",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "is empty, not a mapping (line 1)"),
        ("[]", "is a list, not a mapping (line 1)"),
        ("{}", "has no version; this release reads version: 1 (line 1)"),
        ("version: 2", "version: is not 1, the version that this release reads (line 1)"),
        ("version: true", "version: is not 1, the version that this release reads (line 1)"),
        ("version: '1'", "version: is not 1, the version that this release reads (line 1)"),
        ("version: 1\npresence:", "presence: is empty, not a mapping (line 2)"),
        ("version: 1\nnamespace: {}", "namespace: is an unknown key; did you mean namespaces? (line 2)"),
        ("version: 1\nnamespaces: {chat: {}}", "namespaces.chat: a namespace starts with a slash (line 2)"),
        (
            "version: 1\nnamespaces: {/chatt: {}}",
            "namespaces./chatt: is not in GATEWAY_NAMESPACES; did you mean /chat? (line 2)",
        ),
        ("version: 1\nversion: 1", "the key version stands twice in one mapping (line 2)"),
        ("a: 1\n---\nb: 2", "the file holds more than one document (line 2)"),
        ("a: *b", "an alias has no anchor before it, or stands in the value of its own anchor (line 1)"),
        ("a: &a [*a]", "an alias has no anchor before it, or stands in the value of its own anchor (line 1)"),
        ("a: !!python/object:os.system x", "tags are not supported; quotes make a value text (line 1)"),
        ("a: !!binary x", "tags are not supported; quotes make a value text (line 1)"),
        ("a: {<<: {}}", "merge keys (<<) are not supported (line 1)"),
        ("? [a]\n: 1", "a key is a list or a mapping; keys are text (line 1)"),
        ("1: a", "the key 1 is not text: put it in quotes (line 1)"),
        ("a: .nan", ".nan is no number in JSON (line 1)"),
        ("a: 1e400", "a number is too large (line 1)"),
        ("a: 99999999999999999999", "an integer has more than 64 bits (line 1)"),
        ("a: " + "9" * 5000, "an integer has more than 64 bits (line 1)"),
        ("x: " + "[" * 500_000, "the file is nested deeper than 100 levels (line 1)"),
        ("x: " + "{a: " * 200, "the file is nested deeper than 100 levels (line 1)"),
        ("x: " + "y" * 1024 * 1024, "the file is larger than 1 MiB"),
        ("x: " + "é" * 600 * 1024, "the file is larger than 1 MiB"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_files_that_are_no_catalogue(text: str, mistake: str) -> None:
    assert mistakes(text) == [mistake]


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\t- x", "a: \x00", "%YAML 9.9\n--- x", "a: '"])
def test_text_that_is_no_yaml(text: str) -> None:
    (mistake,) = mistakes(text)

    assert mistake.startswith("is not YAML: ")


def test_aliases_cannot_multiply_without_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    assert mistakes("\n".join(lines)) == ["the file holds more than 200000 values (line 6)"]


def test_chain_of_aliases_cannot_exceed_the_depth() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200))]

    assert mistakes("\n".join(lines)) == ["the file is nested deeper than 100 levels (line 100)"]


@pytest.mark.parametrize(
    ("members", "mistake"),
    [
        ("    online_users: []", "online_users: is a list, not a mapping"),
        ("    error_event: eror", "error_event: is not one of error, exception; did you mean error?"),
        ("    undescribed_pushes: false", "undescribed_pushes: is true or false, not text"),
        ("    broadcast: members", "broadcast: members belong to a room; use anyone or a list of rooms"),
        ("    broadcast: {call: app}", "broadcast: is a mapping; only join may have {call: <webhook>}"),
        ("    rooms: {}", "rooms: is a mapping, not a list"),
        ("    rooms: [{join: anyone}]", "rooms.0: has no match"),
        ("    rooms: [{match: ''}]", "rooms.0.match: a room name is not empty"),
        (
            "    rooms: [{match: a, join: anyon}]",
            "rooms.0.join: is not one of anyone, members; did you mean anyone?",
        ),
        (
            "    rooms: [{match: a, join: members}]",
            "rooms.0.join: members are in the room already; use anyone, a list of rooms or {call: <webhook>}",
        ),
        ("    rooms: [{match: a, join: {}}]", "rooms.0.join: has no call"),
        (
            "    rooms: [{match: 'doc:e\u0301*', join: anyone}]",
            "rooms.0.match: a room name is in Unicode form NFC (é is one character, not e and an accent)",
        ),
        (
            "    rooms: [{match: a, send: {call: app}}]",
            "rooms.0.send: is a mapping; only join may have {call: <webhook>}",
        ),
        (
            "    rooms: [{match: a, send: []}]",
            "rooms.0.send: is an empty list, which allows no client; leave it out for that",
        ),
        (
            "    rooms: [{match: a, list_members: 1}]",
            "rooms.0.list_members: is a number, neither true nor false",
        ),
        ("    client_events: {'': {}}", "client_events.'': an event name is not empty"),
        (
            "    client_events: {a*b: {}}",
            "client_events.a*b: * stands for any text at the end of a name only",
        ),
        (
            "    client_events: {disconnect: {}}",
            "client_events.disconnect: the event name 'disconnect' is reserved by Socket.IO",
        ),
        (
            "    client_events: {'auth:refresh': {}}",
            "client_events.auth:refresh: is an event that the gateway handles itself",
        ),
        (
            "    client_events: {e: {emit: [{to: self, event: authenticated}]}}",
            "client_events.e.emit.0.event: the event name 'authenticated' is reserved by the gateway",
        ),
        (
            "    server_events: {'recovery:failed': {}}",
            "server_events.recovery:failed: the event name 'recovery:failed' is reserved by the gateway",
        ),
        ("    client_events: {e: }", "client_events.e: is empty, not a mapping"),
        ("    server_events: {e: {emit: []}}", "server_events.e.emit: is an unknown key"),
        ("    server_events: {e: {optional: 1}}", "server_events.e.optional: stands without args"),
    ],
)
def test_mistakes_of_a_namespace(members: str, mistake: str) -> None:
    assert mistakes(in_namespace(members)) == [f"namespaces./.{mistake} (line 4)"]


@pytest.mark.parametrize("prefix", ["user:", "org:", "tenant:", "role:", "~"])
@pytest.mark.parametrize("allow", ["anyone", "[role:admin]", "{call: app}"])
def test_rules_let_no_client_join_reserved_rooms(prefix: str, allow: str) -> None:
    found = mistakes(in_namespace(f"    rooms: [{{match: '{prefix}*', join: {allow}}}]"))

    assert found == [f"namespaces./.rooms.0.join: {RESERVED} (line 4)"]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("args: {}", "args: is a mapping, not a list"),
        ("args: [" + "true, " * 17 + "]", "args: has more than 16 arguments"),
        ("args: [true], optional: 2", "optional: is not an integer from 0 to 1"),
        ("optional: 1", "optional: stands without args"),
        ("returns: true", "returns: describes the answer of a call; the entry has none"),
        ("allow: anyone", "allow: is text, not a list"),
        ("rate: 0", "rate: is not a rate above 0 and up to 1000000 each second"),
        ("rate: fast", "rate: is text, not a number"),
        ("serial: 1", "serial: is a number, neither true nor false"),
        ("notify: ap", f"notify: {NO_WEBHOOK}; there are app, billing"),
        ("notify: app, returns: true", "returns: describes the answer of a call; the entry has none"),
        ("call: app, notify: app", "notify: stands beside call: remove one of the two"),
        ("notify: app, reject: no", "reject: stands beside notify: remove one of the two"),
        ("call: app, reject: no", "reject: stands beside call: remove one of the two"),
        ("join: $0, leave: $0", "leave: stands beside join: remove one of the two"),
        ("reject: no, ack: 1", "ack: has no effect beside reject"),
        ("reject: ' '", "reject: is not a sentence of 1 to 300 characters"),
        ("call: [app]", "call: is a list, not text"),
        ("dedupe: id", "dedupe: is not a reference such as $0 or $0.id"),
        ("dedupe: $now", "dedupe: is not a part of an argument, such as $0.id"),
        ("join: user:42", f"join: {NEITHER}"),
        ("leave: ~abc", f"leave: {NEITHER}"),
        ("join: ''", "join: a room name is not empty"),
        (
            "join: $sid",
            "join: is neither a part of an argument or of the socket data, nor the name of a room",
        ),
        ("join: [a]", "join: is a list, not text"),
        ("emit: {}", "emit: is a mapping, not a list"),
        ("emit: [{event: x}]", "emit.0: has no to"),
        ("emit: [{to: self}]", "emit.0: has no event"),
        ("emit: [{to: self, event: x, data: 1, args: []}]", "emit.0.args: stands beside data: remove one of the two"),
        ("emit: [{to: me, event: x}]", "emit.0.to: is not one of self, others, everyone"),
        ("emit: [{to: [], event: x}]", "emit.0.to: has 0 recipients; 1 to 100 are possible"),
        ("emit: [{to: {}, event: x}]", "emit.0.to: needs exactly one of room, rooms, user, sid, own_rooms"),
        (
            "emit: [{to: {room: a, user: b}, event: x}]",
            "emit.0.to: needs exactly one of room, rooms, user, sid, own_rooms",
        ),
        ("emit: [{to: {room: 7}, event: x}]", "emit.0.to.room: is a number, not text"),
        ("emit: [{to: {room: [a]}, event: x}]", "emit.0.to.room: is a list, not text"),
        ("emit: [{to: {rooms: []}, event: x}]", "emit.0.to.rooms: has 0 rooms; 1 to 100 are possible"),
        (
            "emit: [{to: others, event: x}]",
            "emit.0.to: others are the members of a room that the event joins or leaves; it has neither join nor leave",
        ),
        (
            "emit: [{to: everyone, event: x}]",
            "emit.0.to: the namespace has no broadcast, so no client may reach everyone",
        ),
        ("emit: [{to: {room: a}, event: x, except: others}]", "emit.0.except: is not one of self"),
        (
            "emit: [{to: self, event: x, except: self}]",
            "emit.0.except: leaves no recipient: the message is for the sender alone",
        ),
        ("emit: [" + "{to: self, event: x}, " * 33 + "]", "emit: has more than 32 messages"),
        ("ack: $16", "ack: $16 is unknown; arguments are $0 to $15"),
        ("ack: $01", f"ack: $01 is unknown; {ROOTS}"),
        ("args: [true], ack: {a: [$1]}", "ack.a.0: $1 is unknown: args describes 1 of them"),
        ("ack: $sid.x", "ack: $sid has no members"),
        ("ack: $0..a", "ack: is not a reference such as $0.room; text that begins with $ is written $$"),
        ("ack: $", "ack: is not a reference such as $0.room; text that begins with $ is written $$"),
        ("ack: $error.code", "ack: $error is known in on_error only"),
        ("on_error: {ack: $error.cause}", "on_error.ack: $error has code and message"),
        ("on_error: {emit: [{to: {room: a}, event: x}]}", "on_error.emit.0.to: emissions of on_error go to self only"),
        ("on_eror: {}", "on_eror: is an unknown key; did you mean on_error?"),
    ],
)  # fmt: skip
def test_mistakes_of_an_entry(text: str, mistake: str) -> None:
    assert entry_mistakes(text) == [mistake]


def test_webhook_that_is_not_configured() -> None:
    text = in_namespace("    rooms: [{match: a, join: {call: app}}]\n    client_events: {e: {call: app}}\n")

    assert mistakes(text, webhooks=()) == [
        f"namespaces./.rooms.0.join.call: {NO_WEBHOOK}; none is configured (line 4)",
        f"namespaces./.client_events.e.call: {NO_WEBHOOK}; none is configured (line 5)",
    ]


def test_many_mistakes_are_cut_off() -> None:
    text = in_namespace("    client_events:\n" + "".join(f"      e{n}: {{x: 1}}\n" for n in range(900)))

    assert len(mistakes(text)) == 200


def test_file_is_not_read_further_than_the_mistakes_that_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def count(*_arguments: object, **_options: object) -> list[str]:
        nonlocal compared
        compared += 1
        return []

    monkeypatch.setattr("gateway.events.mistakes.get_close_matches", count)
    keys = "".join(f"      key{number}: 1\n" for number in range(50_000))

    found = mistakes(in_namespace(f"    client_events:\n     e:\n{keys}"))

    assert len(found) == compared == MAX_MISTAKES


def test_too_many_events_and_rules_are_one_mistake_each() -> None:
    rules = "".join("    - {match: a, jion: anyone}\n" for _ in range(1_001))
    events = "".join(f"      e{number}: {{emti: 1}}\n" for number in range(1_001))

    assert mistakes(in_namespace(f"    rooms:\n{rules}")) == [
        "namespaces./.rooms: has 1001 rules; at most 1,000 are possible (line 4)"
    ]
    assert mistakes(in_namespace(f"    client_events:\n{events}")) == [
        "namespaces: hold 1001 events; at most 1000 are possible (line 2)"
    ]
