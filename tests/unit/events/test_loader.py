"""Files that are catalogues, and what they become."""

from __future__ import annotations

from gateway.domain.event_catalogue import (
    Allow,
    AllowKind,
    Arguments,
    Emission,
    Glob,
    OnError,
    RoomRule,
    Target,
    TargetKind,
)
from gateway.domain.templates import ArrayTemplate, Literal, ObjectTemplate, Reference
from gateway.events import warnings
from tests.support.paths import ROOT
from tests.unit.events.loading import entry, in_namespace, load, mistakes, namespace

EXAMPLE = (ROOT / "examples/nestjs/events.yaml").read_text(encoding="utf-8")


def test_example_is_a_catalogue() -> None:
    catalogue = load(EXAMPLE)

    assert list(catalogue.namespaces) == ["/chat", "/events", "/match", "/"]
    assert list(catalogue.schemas) == ["ChatMessage"]
    assert catalogue.webhooks() == {"app"}


def test_example_has_the_warning_of_its_comment() -> None:
    assert warnings(load(EXAMPLE)) == [
        "namespaces./chat.rooms.0.join: any client may join every room but those with a reserved prefix"
    ]


def test_entry_that_joins_has_every_effect() -> None:
    found = load(EXAMPLE).namespaces["/chat"].client_events["joinRoom"]

    assert found.join == Reference("0")
    assert found.ack == ObjectTemplate((("event", Literal("joinedRoom")), ("room", Reference("0"))))
    assert found.emit == (
        Emission(
            (Target(TargetKind.OTHERS),),
            "userJoined",
            (ObjectTemplate((("userId", Reference("sid")), ("room", Reference("0")))),),
        ),
        Emission((Target(TargetKind.SELF),), "joinedRoom", (ObjectTemplate((("room", Reference("0")),)),)),
    )


def test_rules_keep_their_order() -> None:
    found = namespace(
        """\
    rooms:
      - {match: "vip:*", join: [role:member, "team:*"], send: members, list_members: true}
      - {match: "game:*", join: {call: app}}
      - {match: "~*", send: anyone}
    broadcast: [role:admin]
"""
    )

    assert found.rooms == (
        RoomRule(
            Glob("vip:*"),
            Allow(AllowKind.ROOMS, rooms=(Glob("role:member"), Glob("team:*"))),
            Allow(AllowKind.MEMBERS),
            list_members=True,
        ),
        RoomRule(Glob("game:*"), join=Allow(AllowKind.CALL, webhook="app")),
        RoomRule(Glob("~*"), send=Allow(AllowKind.ANYONE)),
    )
    assert found.broadcast == Allow(AllowKind.ROOMS, rooms=(Glob("role:admin"),))


def test_targets_of_every_kind() -> None:
    found = entry(
        "args: [{}], emit: [{event: x, to: [self, everyone, {room: lobby}, {room: $0.room}, {rooms: $0.rooms}, "
        "{rooms: [a, $0.b]}, {rooms: [a, b]}, {user: $0.user}, {sid: $0.sid}, {own_rooms: 'org:*'}]}]",
        rest="    broadcast: anyone\n",
    )

    assert found.emit[0].to == (
        Target(TargetKind.SELF),
        Target(TargetKind.EVERYONE),
        Target(TargetKind.ROOMS, Literal("lobby")),
        Target(TargetKind.ROOMS, Reference("0", ("room",))),
        Target(TargetKind.ROOMS, Reference("0", ("rooms",))),
        Target(TargetKind.ROOMS, ArrayTemplate((Literal("a"), Reference("0", ("b",))))),
        Target(TargetKind.ROOMS, Literal(["a", "b"])),
        Target(TargetKind.USERS, Reference("0", ("user",))),
        Target(TargetKind.SIDS, Reference("0", ("sid",))),
        Target(TargetKind.OWN_ROOMS, glob=Glob("org:*")),
    )


def test_options_of_an_emission() -> None:
    without, null, several = entry(
        "emit: [{to: {room: a}, event: x, except: self, volatile: true}, {to: self, event: x, data: null}, "
        "{to: self, event: x, args: [1, $0]}]"
    ).emit

    assert (without.arguments, without.except_self, without.volatile) == ((), True, True)
    assert null.arguments == (Literal(None),)
    assert several.arguments == (Literal(1), Reference("0"))


def test_templates() -> None:
    found = entry(
        "ack: {text: plain, dollar: $$5, list: [$0, null], deep: {a: [$$, 1.5, true]}, all: [$sid, $user, $sub, "
        "$email, $now, $id, $data.name, $15.a.0]}"
    )

    assert found.ack == ObjectTemplate(
        (
            ("text", Literal("plain")),
            ("dollar", Literal("$5")),
            ("list", ArrayTemplate((Reference("0"), Literal(None)))),
            ("deep", Literal({"a": ["$", 1.5, True]})),
            (
                "all",
                ArrayTemplate(
                    (
                        *(Reference(root) for root in ("sid", "user", "sub", "email", "now", "id")),
                        Reference("data", ("name",)),
                        Reference("15", ("a", "0")),
                    )
                ),
            ),
        )
    )


def test_options_of_an_entry() -> None:
    found = entry(
        "args: [{}, true], optional: 1, allow: [role:admin], rate: 0.5, user_rate: 10, dedupe: $0.id, serial: true, "
        "call: app, returns: true, on_error: {emit: [{to: self, event: failed, data: $error.code}], "
        "ack: {error: $error.message}}"
    )

    assert found.args == Arguments((None, None), optional=1)
    assert found.allow == (Glob("role:admin"),)
    assert (found.rate, found.user_rate, found.serial, found.call) == (0.5, 10, True, "app")
    assert found.dedupe == Reference("0", ("id",))
    assert found.on_error == OnError(
        (Emission((Target(TargetKind.SELF),), "failed", (Reference("error", ("code",)),)),),
        ObjectTemplate((("error", Reference("error", ("message",))),)),
    )


def test_entry_without_args_takes_any_arguments() -> None:
    assert entry("").args == Arguments()
    assert entry("args: []").args == Arguments(())


def test_rejected_event_has_its_sentence() -> None:
    assert entry("reject: use the REST API").reject == "use the REST API"


def test_longest_pattern_is_first() -> None:
    found = namespace('    client_events: {"*": {}, "chat:*": {}, "chat:a*": {}, "chat:a": {}}\n')

    assert [pattern.name for pattern in found.patterns] == ["chat:a*", "chat:*", "*"]
    assert list(found.client_events) == ["chat:a"]


def test_namespace_options() -> None:
    found = namespace(
        "    error_event: exception\n    undescribed_pushes: reject\n"
        "    server_events: {news: {args: [{type: string}], optional: 1}, any: {}}\n"
    )

    assert (found.error_event, found.allows_undescribed_pushes) == ("exception", False)
    assert found.server_events["news"].args.optional == 1
    assert found.server_events["any"].args == Arguments()


def test_defaults_of_a_namespace() -> None:
    found = namespace("    client_events: {}\n")

    assert (found.error_event, found.allows_undescribed_pushes, found.rooms) == ("error", True, ())


def test_equal_texts_are_equal_catalogues() -> None:
    assert load(EXAMPLE) == load(EXAMPLE)
    assert load(EXAMPLE) != load(EXAMPLE.replace("maxLength: 1000", "maxLength: 999"))


def test_anchors_repeat_values() -> None:
    text = in_namespace("    client_events: {a: &a {rate: 5}, b: *a}\n")

    assert load(text).namespaces["/"].client_events["b"].rate == 5


def test_words_of_yaml_1_1_are_text() -> None:
    assert entry("ack: [on, no, 2026-11-21, 007, 1_000, 0x1f, 12:30]").ack == Literal(
        ["on", "no", "2026-11-21", "007", "1_000", "0x1f", "12:30"]
    )


def test_a_thousand_events_are_the_limit() -> None:
    text = in_namespace(
        "    client_events:\n" + "".join(f"      e{number}: {{}}\n" for number in range(1001))
    )

    assert mistakes(text) == ["namespaces: hold 1001 events; at most 1000 are possible (line 2)"]
    assert mistakes(text.replace("      e1000: {}\n", "")) == []
