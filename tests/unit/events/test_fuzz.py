"""Any text is a catalogue or a list of mistakes, and no catalogue lets clients join what they must not."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.event_catalogue import NEVER, RESERVED_PREFIXES, EventCatalogue
from gateway.domain.identity import Identity
from gateway.domain.messages import Address
from gateway.domain.presence import PresenceChange, UserList
from gateway.domain.templates import ConnectionContext, EventContext, Literal
from gateway.events import CatalogueError, load_catalogue, warnings
from gateway.events.asyncapi import asyncapi
from gateway.events.typescript import typescript
from tests.support.paths import ROOT

EXAMPLE = (ROOT / "examples/nestjs/events.yaml").read_text(encoding="utf-8")
WORDS = st.sampled_from(
    [
        "version", "schemas", "namespaces", "rooms", "match", "join", "leave", "send", "emit", "to",
        "event", "data", "args", "call", "anyone", "members", "self", "others", "everyone", "room",
        "rooms", "user", "sid", "own_rooms", "ack", "on_error", "$0", "$0.a", "$$", "$sid",
        "$error.code", "$ref", "type", "string", "object", "anyOf", "properties", "#/schemas/A",
        "user:*", "~*", "*", "a*", "/", "/chat", "e", "e*", "app", "optional", "rate", "notify",
        "presence", "announce", "when", "online", "offline", "namespace", "offline_after_seconds",
        "online_users", "each", "every_seconds", "max", "$version", "$since", "$email",
    ]
)  # fmt: skip
SCALARS = st.one_of(WORDS, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=25,
)
GLOBS = st.one_of(
    st.sampled_from(["*", "user:*", "~*", "u*", "*:*", "org:*", "role:", "us*r:1", "~"]),
    st.text(st.sampled_from("*~user:orgtenl[]?!x"), min_size=1, max_size=8),
)
ALLOWS = st.one_of(st.just("anyone"), st.lists(GLOBS, min_size=1, max_size=2), st.just({"call": "app"}))
ROOMS = st.one_of(
    st.tuples(st.sampled_from(RESERVED_PREFIXES), st.text(max_size=20)).map("".join), st.text(max_size=20)
)


def loaded(text: str) -> EventCatalogue | None:
    """Return the catalogue, or None if the text has mistakes; every other exception is a failure."""
    try:
        catalogue = load_catalogue(text, namespaces=("/", "/chat"), webhooks=("app",))
    except CatalogueError as error:
        sentences = [mistake.sentence for mistake in error.mistakes]
    else:
        warnings(catalogue)
        typescript(catalogue)
        asyncapi(catalogue)
        return catalogue
    assert sentences
    assert all(sentences)
    return None


@given(text=st.text(max_size=200))
def test_any_text_is_read_or_rejected(text: str) -> None:
    loaded(text)


@given(text=st.text(st.sampled_from("[]{}:,&*!|>-?'\"#% \n\tab1~<"), max_size=60))
def test_any_punctuation_is_read_or_rejected(text: str) -> None:
    loaded(text)


@settings(max_examples=300)
@given(value=VALUES)
def test_any_tree_is_read_or_rejected(value: Any) -> None:
    loaded(json.dumps({"version": 1, "namespaces": {"/": value}}))
    loaded(json.dumps({"version": 1, "namespaces": {"/": {"client_events": {"e": value}}}}))
    loaded(json.dumps({"version": 1, "namespaces": {"/": {"online_users": value}}}))
    loaded(json.dumps({"version": 1, "schemas": {"A": value}}))
    loaded(json.dumps({"version": 1, "presence": value}))
    loaded(json.dumps({"version": 1, "presence": {"announce": [value]}}))
    loaded(json.dumps(value))


@settings(max_examples=300)
@given(data=st.data())
def test_any_change_of_the_example_is_read_or_rejected(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(EXAMPLE)))
    removed = data.draw(st.integers(0, 12))
    inserted = data.draw(WORDS | st.text(max_size=4))

    loaded(EXAMPLE[:start] + inserted + EXAMPLE[start + removed :])


@settings(max_examples=300)
@given(
    rules=st.lists(
        st.fixed_dictionaries({"match": GLOBS}, optional={"join": ALLOWS, "send": ALLOWS}), max_size=5
    ),
    room=ROOMS,
)
def test_no_catalogue_lets_clients_join_reserved_rooms(rules: list[dict[str, Any]], room: str) -> None:
    catalogue = loaded(json.dumps({"version": 1, "namespaces": {"/": {"rooms": rules}}}))
    if catalogue is None or not room.startswith(RESERVED_PREFIXES):
        return

    rule = catalogue.namespaces["/"].rule_for(room)

    assert rule is None or rule.join == NEVER


@given(room=ROOMS, effect=st.sampled_from(["join", "leave"]))
def test_no_entry_names_a_reserved_room_to_join_or_leave(room: str, effect: str) -> None:
    for written in (room, f"${room}"):
        catalogue = loaded(
            json.dumps({"version": 1, "namespaces": {"/": {"client_events": {"e": {effect: written}}}}})
        )
        if catalogue is None:
            continue
        template = getattr(catalogue.namespaces["/"].client_events["e"], effect)
        if isinstance(template, Literal):
            assert not str(template.value).startswith(RESERVED_PREFIXES)


TARGETS = st.one_of(
    st.just("everyone"),
    st.fixed_dictionaries({"own_rooms": GLOBS}),
    st.fixed_dictionaries({"room": ROOMS | st.just("$user")}),
    st.fixed_dictionaries({"rooms": st.lists(ROOMS, max_size=3)}),
    st.fixed_dictionaries({"user": ROOMS | st.just("$user")}),
)
ADDRESSES = st.builds(Address, st.sampled_from(["/", "/chat"]), st.none() | ROOMS)


@settings(max_examples=300)
@given(
    to=TARGETS | st.lists(TARGETS, max_size=3),
    data=VALUES,
    when=st.sampled_from(["online", "offline"]),
    addresses=st.lists(ADDRESSES, max_size=6),
)
def test_announcements_of_any_form_render(to: Any, data: Any, when: str, addresses: list[Address]) -> None:
    announcement = {"when": when, "namespace": "/", "to": to, "event": "x", "data": data}
    catalogue = loaded(json.dumps({"version": 1, "presence": {"announce": [announcement]}}))
    if catalogue is None or catalogue.presence is None:
        return
    change = PresenceChange("42", when == "online", 7, 0.0, 1, 0, tuple(addresses))

    message = catalogue.presence.announce[0].message(change, message_id="m", time=1.0)

    if message is None:
        return
    assert len([json.loads(text) for text in message.arguments]) == 1
    if isinstance(to, dict) and "own_rooms" in to:
        assert set(message.rooms) <= {room for _, room in addresses}
        assert not any(room.startswith("~") for room in message.rooms)


@settings(max_examples=200)
@given(template=VALUES)
def test_lists_of_online_users_of_any_form_render(template: Any) -> None:
    text = json.dumps({"version": 1, "namespaces": {"/": {"online_users": {"event": "x", "each": template}}}})
    catalogue = loaded(text)
    users = None if catalogue is None else catalogue.namespaces["/"].online_users
    if users is None:
        return

    entry = users.entry(ConnectionContext("~s", Identity("42", frozenset(), subject=42)))

    (listed,) = users.arguments(UserList(1, 2, (entry, entry)))
    assert json.loads(listed) == [json.loads(entry)] * 2


@settings(max_examples=200)
@given(template=VALUES, argument=VALUES)
def test_templates_of_any_form_render(template: Any, argument: Any) -> None:
    text = json.dumps({"version": 1, "namespaces": {"/": {"client_events": {"e": {"ack": template}}}}})
    catalogue = loaded(text)
    ack = None if catalogue is None else catalogue.namespaces["/"].client_events["e"].ack
    if ack is not None:
        ack.render(EventContext([argument], "~s", Identity("42", frozenset(), subject=42), {}, 0.0, "m"))
