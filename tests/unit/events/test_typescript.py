"""TypeScript declarations: names, directions, acknowledgements, and the type of every schema."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.event_catalogue import (
    Announcement,
    Arguments,
    ClientEvent,
    EventCatalogue,
    NamespaceEvents,
    OnlineUsers,
    PresenceNotices,
    ServerEvent,
    Target,
    TargetKind,
)
from gateway.domain.templates import ArrayTemplate, Literal, ObjectTemplate, Reference, Template
from gateway.events.typescript import typescript
from tests.unit.events.catalogues import CHAT, arguments, emission, object_of

ERROR = "GatewayErrorAnswer"


def members(text: str, interface: str) -> dict[str, str]:
    """Return the members of an interface by their names."""
    lines = text.split(f"export interface {interface} {{\n")[1].split("\n}\n", maxsplit=1)[0].splitlines()
    parts = [line.strip().removesuffix(";").partition(": ") for line in lines]
    return {name: type_ for name, _, type_ in parts}


def alias(text: str, name: str) -> str:
    """Return what a type stands for."""
    return text.split(f"export type {name} = ")[1].split(";\n", maxsplit=1)[0]


def type_of(schema: Any, **named: Any) -> str:
    """Return the type of a schema."""
    event = ServerEvent("e", arguments(schema))
    catalogue = EventCatalogue({"/": NamespaceEvents(server_events={"e": event})}, named)
    member = members(typescript(catalogue), "MainServerToClientEvents")["e"]
    return member.removeprefix("(data: ").removesuffix(", position?: string) => void")


def type_of_template(template: Template, *schemas: Any, optional: int = 0) -> str:
    """Return the type of what a template renders, for an event with arguments of these schemas."""
    event = ClientEvent(
        name="ask", args=arguments(*schemas, optional=optional), emit=(emission("got", template),)
    )
    catalogue = EventCatalogue({"/": NamespaceEvents(client_events={"ask": event})})
    member = members(typescript(catalogue), "MainServerToClientEvents")["got"]
    return member.removeprefix("(data: ").removesuffix(", position?: string) => void")


def test_only_socket_io_client_is_imported() -> None:
    imports = [line for line in typescript(CHAT).splitlines() if "import" in line]

    assert imports == ['import type { Socket } from "socket.io-client";']


def test_each_namespace_has_three_types_named_after_it() -> None:
    text = typescript(CHAT, acks="required")

    assert alias(text, "ChatSocket") == "Socket<ChatServerToClientEvents, ChatClientToServerEvents>"
    assert alias(text, "MainSocket") == "Socket<MainServerToClientEvents, MainClientToServerEvents>"


@pytest.mark.parametrize(
    ("namespace", "prefix"),
    [("/admin-tools", "AdminTools"), ("/v2/chat", "V2Chat"), ("/2", "_2"), ("/é", "Main")],
)
def test_names_of_namespaces_become_identifiers(namespace: str, prefix: str) -> None:
    text = typescript(EventCatalogue({namespace: NamespaceEvents()}))

    assert f"export type {prefix}Socket = " in text


def test_namespaces_with_equal_names_get_numbers() -> None:
    text = typescript(EventCatalogue({"/": NamespaceEvents(), "/main": NamespaceEvents()}))

    assert "export type MainSocket = " in text
    assert "export type Main2Socket = " in text


def test_base64_is_typed_as_the_buffer_that_clients_send_and_get() -> None:
    buffer = {"type": "string", "format": "byte"}

    assert type_of(buffer) == "ArrayBuffer | Uint8Array"
    assert type_of({"type": "array", "items": buffer}) == "(ArrayBuffer | Uint8Array)[]"
    assert type_of({"type": ["string", "null"], "format": "byte"}) == "ArrayBuffer | Uint8Array | null"
    assert type_of_template(ObjectTemplate((("file", Reference("0")),)), buffer) == (
        "{ file: ArrayBuffer | Uint8Array }"
    )


def test_an_acknowledgement_is_the_last_parameter_and_may_be_an_error() -> None:
    sent = members(typescript(CHAT), "ChatClientToServerEvents")

    answer = f'{{ event: "joinedRoom"; room: string }} | {ERROR}'
    assert sent["joinRoom"] == f"(data: string, ack: (answer: {answer}) => void) => void"


def test_an_acknowledgement_without_an_argument_is_optional_in_it() -> None:
    sent = members(typescript(CHAT), "ChatClientToServerEvents")

    assert sent["message"] == f"(data: ChatMessage, ack: (answer?: {ERROR}) => void) => void"


def test_the_error_of_on_error_replaces_that_of_the_gateway() -> None:
    sent = members(typescript(CHAT), "MainClientToServerEvents")

    answer = "{ success: boolean } | { success: false; error: string }"
    assert sent['"match:quit"'] == f"(data: unknown, ack: (answer: {answer}) => void) => void"


def test_optional_arguments_give_one_tuple_for_each_count() -> None:
    sent = members(typescript(CHAT), "ChatClientToServerEvents")["typing"]

    ack = f"ack: (answer?: {ERROR}) => void"
    assert sent == f"(...args: [arg1: string, {ack}] | [arg1: string, arg2: boolean, {ack}]) => void"


def test_plain_events_have_no_acknowledgement() -> None:
    text = typescript(CHAT)

    plain = members(text, "ChatPlainEvents")
    assert plain["typing"] == "(arg1: string, arg2?: boolean) => void"
    assert alias(text, "ChatSocket").endswith("& PlainEmit<ChatPlainEvents>")


def test_without_acknowledgements_there_are_no_plain_events() -> None:
    text = typescript(CHAT, acks="none")

    assert members(text, "ChatClientToServerEvents")["joinRoom"] == "(data: string) => void"
    assert "PlainE" not in text


def test_a_pattern_is_an_index_and_a_rejected_one_is_left_out() -> None:
    sent = members(typescript(CHAT), "MainClientToServerEvents")

    assert [name for name in sent if name.startswith("[")] == ["[event"]
    assert "[event: `log:${string}`]: (...args: any[]) => void;" in typescript(CHAT)


def test_the_sentence_of_a_rejected_event_does_not_end_its_comment() -> None:
    assert "/** @deprecated Always rejected: use match:quit * / instead */ old: " in typescript(CHAT)


def test_emissions_of_one_event_are_a_union() -> None:
    got = members(typescript(CHAT), "ChatServerToClientEvents")["message"]

    assert got.endswith(' | "Message received", position?: string) => void')
    assert "text: string; sender: string; tags?: string[]" in got


def test_a_described_event_is_as_described_whatever_is_emitted() -> None:
    event = ClientEvent(name="ask", emit=(emission("got", Literal(1)),))
    described = ServerEvent("got", arguments({"type": "number"}))
    catalogue = EventCatalogue(
        {"/": NamespaceEvents(client_events={"ask": event}, server_events={"got": described})}
    )

    got = members(typescript(catalogue), "MainServerToClientEvents")["got"]
    assert got == "(data: number, position?: string) => void"


def test_announcements_of_one_event_are_a_union() -> None:
    got = members(typescript(CHAT), "ChatServerToClientEvents")["status"]

    assert got == "(arg1: string, arg2: true | false, arg3?: number | string, position?: string) => void"


def test_a_namespace_that_only_gets_announcements_has_types() -> None:
    got = members(typescript(CHAT), "EventsServerToClientEvents")

    assert got["gone"] == "(data: { at: string }, position?: string) => void"


def test_a_list_of_online_users_may_be_cut() -> None:
    got = members(typescript(CHAT), "ChatServerToClientEvents")["onlineUsers"]

    entries = "{ socketId: string; userId: string | number }[]"
    assert got == f"(arg1: {entries}, arg2?: {{ truncated: true }} | string, position?: string) => void"


def test_a_description_replaces_that_of_announcements_and_lists() -> None:
    events = NamespaceEvents(
        server_events={name: ServerEvent(name, arguments({"type": "number"})) for name in ("who", "status")},
        online_users=OnlineUsers("who", Reference("user")),
    )
    announcement = Announcement(True, "/", (Target(TargetKind.EVERYONE),), "status", (Reference("user"),))
    catalogue = EventCatalogue({"/": events}, presence=PresenceNotices(announce=(announcement,)))

    got = members(typescript(catalogue), "MainServerToClientEvents")
    for name in ("who", "status"):
        assert got[name] == "(data: number, position?: string) => void"


def test_a_notification_is_acknowledged_as_its_entry_says() -> None:
    events = {
        "saved": ClientEvent(name="saved", args=arguments(), notify="app", ack=Literal(True)),
        "sent": ClientEvent(name="sent", args=arguments(), notify="app"),
    }
    sent = members(
        typescript(EventCatalogue({"/": NamespaceEvents(client_events=events)})), "MainClientToServerEvents"
    )

    assert sent["saved"] == f"(ack: (answer: true | {ERROR}) => void) => void"
    assert sent["sent"] == f"(ack: (answer?: {ERROR}) => void) => void"


def test_a_position_may_stand_in_the_place_of_an_absent_argument() -> None:
    event = ServerEvent("score", arguments({"type": "number"}, {"type": "number"}, optional=1))
    catalogue = EventCatalogue({"/": NamespaceEvents(server_events={"score": event})})

    got = members(typescript(catalogue), "MainServerToClientEvents")["score"]
    assert got == "(arg1: number, arg2?: number | string, position?: string) => void"


def test_the_events_of_the_gateway_are_in_every_namespace() -> None:
    text = typescript(CHAT)

    for prefix, error in (("Chat", "error"), ("Main", "exception")):
        got = members(text, f"{prefix}ServerToClientEvents")
        assert got["authenticated"] == "(data: Authenticated, position?: string) => void"
        assert got['"auth:expiring"'] == "(data: AuthExpiring) => void"
        assert got['"auth:expired"'] == "(data: AuthExpired) => void"
        assert got['"recovery:failed"'] == "(data: RecoveryFailed) => void"
        assert error in got
        sent = members(text, f"{prefix}ClientToServerEvents")
        assert sent['"auth:refresh"'] == "(data: string, ack: (answer: AuthRefreshAnswer) => void) => void"


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        (True, "unknown"),
        (False, "never"),
        ({}, "unknown"),
        ({"type": "string"}, "string"),
        ({"type": "integer", "minimum": 1}, "number"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"type": "boolean", "default": True}, "boolean"),
        ({"const": 'a"b'}, '"a\\"b"'),
        ({"const": {"a": [1, None]}}, "{ a: [1, null] }"),
        ({"enum": ["a", 1, 1.5, None, True]}, '"a" | 1 | 1.5 | null | true'),
        ({"type": "array"}, "unknown[]"),
        ({"type": "array", "items": {"type": "string"}}, "string[]"),
        ({"type": "array", "items": {"type": ["string", "null"]}}, "(string | null)[]"),
        ({"type": "object"}, "{ [name: string]: unknown }"),
        ({"type": "object", "required": ["a b"]}, '{ "a b": unknown }'),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, "{ a?: string }"),
        (
            {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": True},
            "{ a: unknown; [name: string]: unknown }",
        ),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "{ [name: string]: number }"),
        ({"type": "object", "additionalProperties": False}, "{ [name: string]: never }"),
        ({"anyOf": [{"type": "string"}, {"type": "number"}]}, "string | number"),
        ({"oneOf": [{"type": "string"}, {}]}, "unknown"),
        (
            {"allOf": [{"type": "object", "required": ["a"]}, {"type": "object", "required": ["b"]}]},
            "{ a: unknown } & { b: unknown }",
        ),
        (
            {"type": "string", "anyOf": [{"const": "a"}, {"const": "b"}], "not": {"const": "c"}},
            'string & ("a" | "b")',
        ),
        ({"not": {"type": "string"}}, "unknown"),
    ],
)
def test_every_schema_has_a_type(schema: Any, type_: str) -> None:
    assert type_of(schema) == type_


def test_a_reference_is_the_name_of_an_exported_type() -> None:
    assert type_of({"$ref": "#/schemas/Note"}, Note={"type": "string"}) == "Note"


@pytest.mark.parametrize("name", ["Socket", "string", "MainSocket", "Authenticated"])
def test_a_named_schema_never_takes_the_name_of_another_type(name: str) -> None:
    event = ServerEvent("e", arguments({"$ref": f"#/schemas/{name}"}))
    catalogue = EventCatalogue({"/": NamespaceEvents(server_events={"e": event})}, {name: {"type": "number"}})

    text = typescript(catalogue)
    used = members(text, "MainServerToClientEvents")["e"].removeprefix("(data: ").partition(",")[0]
    assert alias(text, used) == "number"
    assert text.count(f" {used} =") == 1


def test_a_schema_may_refer_to_itself_inside_of_an_object() -> None:
    tree = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#/schemas/Tree"}}},
    }
    catalogue = EventCatalogue({}, {"Tree": tree})

    assert alias(typescript(catalogue), "Tree") == "{ children?: Tree[] }"


def test_a_circle_without_an_object_is_unknown() -> None:
    catalogue = EventCatalogue({}, {"A": {"anyOf": [{"$ref": "#/schemas/B"}]}, "B": {"$ref": "#/schemas/A"}})

    text = typescript(catalogue)
    assert (alias(text, "A"), alias(text, "B")) == ("unknown", "unknown")


NOTE = {
    "type": "object",
    "required": ["text"],
    "properties": {
        "text": {"type": "string"},
        "size": {"type": "number"},
        "list": {"type": "array", "items": {"type": "boolean"}},
    },
}


@pytest.mark.parametrize(
    ("template", "type_"),
    [
        (Literal("hi"), '"hi"'),
        (Literal({"a": [1]}), "{ a: 1[] }"),
        (Reference("sid"), "string"),
        (Reference("now"), "string"),
        (Reference("email"), "string | null"),
        (Reference("sub"), "string | number"),
        (Reference("data", ("x",)), "unknown"),
        (Reference("0", ("text",)), "string"),
        (Reference("0", ("size",)), "number | null"),
        (Reference("0", ("list", "0")), "boolean | null"),
        (Reference("0", ("nothing",)), "unknown"),
        (Reference("1"), "string | null"),
        (Reference("9"), "unknown"),
        (object_of(a=Reference("0", ("size",)), b=Reference("user")), "{ a?: number; b: string }"),
        (ArrayTemplate((Reference("0", ("size",)), Literal(True))), "(number | null | true)[]"),
        (ObjectTemplate(()), "{ [name: string]: never }"),
    ],
)
def test_a_template_has_the_type_of_what_it_renders(template: Template, type_: str) -> None:
    assert type_of_template(template, NOTE, {"type": "string"}, optional=1) == type_


def test_an_event_of_any_arguments_takes_any() -> None:
    event = ClientEvent(name="free", args=Arguments(None))
    described = ServerEvent("any", Arguments(None))
    catalogue = EventCatalogue(
        {"/": NamespaceEvents(client_events={"free": event}, server_events={"any": described})}
    )

    text = typescript(catalogue)
    assert members(text, "MainServerToClientEvents")["any"] == "(...args: any[]) => void"
    ack = f"ack: (answer?: {ERROR}) => void"
    assert (
        members(text, "MainClientToServerEvents")["free"] == f"(...args: [...args: unknown[], {ack}]) => void"
    )


LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    st.fixed_dictionaries({"type": st.sampled_from(["string", "number", "integer", "boolean", "null"])}),
    st.fixed_dictionaries(
        {"const": st.none() | st.booleans() | st.integers() | st.floats(-9, 9) | st.text()}
    ),
    st.fixed_dictionaries({"enum": st.lists(st.text() | st.integers(), min_size=1)}),
    st.just({"$ref": "#/schemas/Note"}),
)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(st.text(), inner, max_size=3)
    several = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", ["object", "null"], ["array", "string"]]),
            "properties": properties,
            "required": st.lists(st.text(), max_size=2),
            "additionalProperties": inner,
            "items": inner,
            "allOf": several,
            "anyOf": several,
            "oneOf": several,
            "not": inner,
            "description": st.text(),
        },
    )


@settings(max_examples=200, deadline=None)
@given(st.recursive(LEAVES, _larger, max_leaves=12))
def test_no_schema_is_without_a_type(schema: Any) -> None:
    type_ = type_of(schema, Note={"type": "string"})

    assert type_ != ""
    for opening, closing in ("{}", "()", "[]"):
        outside = re.sub(r'"(?:[^"\\]|\\.)*"|/\*.*?\*/', "", type_)
        assert outside.count(opening) == outside.count(closing)
