"""The AsyncAPI document: namespaces are channels, events operations, and every reference has a target."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from gateway.domain.event_catalogue import EventCatalogue, NamespaceEvents, ServerEvent
from gateway.events.asyncapi import as_json, as_yaml, asyncapi
from tests.unit.events.catalogues import CHAT, arguments

DOCUMENT = asyncapi(CHAT, title="chat.yaml", version="7")
CHAT_MESSAGES = DOCUMENT["channels"]["Chat"]["messages"]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_each_namespace_is_a_channel() -> None:
    addresses = {name: channel["address"] for name, channel in DOCUMENT["channels"].items()}

    assert addresses == {"Main": "/", "Chat": "/chat", "Events": "/events"}
    assert (DOCUMENT["asyncapi"], DOCUMENT["info"]["title"], DOCUMENT["info"]["version"]) == (
        "3.0.0",
        "chat.yaml",
        "7",
    )


def test_a_client_event_is_received_and_its_acknowledgement_is_the_reply() -> None:
    operation = DOCUMENT["operations"]["Chat_send_joinRoom"]

    assert operation["action"] == "receive"
    assert operation["messages"] == [{"$ref": "#/channels/Chat/messages/send_joinRoom"}]
    assert operation["reply"]["messages"] == [{"$ref": "#/channels/Chat/messages/send_joinRoom_ack"}]
    assert CHAT_MESSAGES["send_joinRoom"] == {
        "name": "joinRoom",
        "title": "joinRoom",
        "payload": {"type": "string"},
    }


def test_a_server_event_is_sent() -> None:
    operation = DOCUMENT["operations"]["Chat_get_userJoined"]

    assert (operation["action"], "reply" in operation) == ("send", False)


def test_announcements_and_lists_of_online_users_are_sent() -> None:
    for name in ("Chat_get_status", "Chat_get_onlineUsers", "Events_get_gone"):
        assert DOCUMENT["operations"][name]["action"] == "send"


def test_the_list_of_online_users_has_entries_and_a_mark_that_it_was_cut() -> None:
    payload = CHAT_MESSAGES["get_onlineUsers"]["payload"]
    entries, mark = payload["items"]

    assert (payload["minItems"], payload["maxItems"]) == (1, 2)
    assert (entries["maxItems"], entries["items"]["required"]) == (20, ["socketId", "userId"])
    assert mark["properties"] == {"truncated": {"const": True}}


def test_the_payload_of_several_arguments_is_an_array() -> None:
    assert CHAT_MESSAGES["send_typing"]["payload"] == {
        "type": "array",
        "minItems": 1,
        "maxItems": 2,
        "items": [{"type": "string"}, {"type": "boolean"}],
    }


def test_every_reference_has_a_target() -> None:
    found = set(references(DOCUMENT))

    assert "#/components/schemas/ChatMessage" in found
    for reference in found:
        target = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_literals_are_not_taken_for_references() -> None:
    literal = {"$ref": "#/schemas/Note"}
    event = ServerEvent("e", arguments({"const": literal}))
    catalogue = EventCatalogue(
        {"/": NamespaceEvents(server_events={"e": event})}, {"Note": {"type": "string"}}
    )

    payload = asyncapi(catalogue)["channels"]["Main"]["messages"]["get_e"]["payload"]
    assert payload == {"const": literal}


def test_events_whose_names_differ_in_signs_alone_are_both_described() -> None:
    events = {name: ServerEvent(name, arguments({})) for name in ("a:b", "a.b")}
    document = asyncapi(EventCatalogue({"/": NamespaceEvents(server_events=events)}))

    names = [message["name"] for message in document["channels"]["Main"]["messages"].values()]
    assert {"a:b", "a.b"} <= set(names)


def test_payloads_are_objects_as_the_specification_demands() -> None:
    for channel in DOCUMENT["channels"].values():
        for message in channel["messages"].values():
            assert isinstance(message["payload"], dict), message


def test_yaml_and_json_hold_the_same_document() -> None:
    assert yaml.safe_load(as_yaml(DOCUMENT)) == json.loads(as_json(DOCUMENT)) == DOCUMENT


def test_an_empty_catalogue_is_a_document_too() -> None:
    assert asyncapi(EventCatalogue())["channels"] == {}
