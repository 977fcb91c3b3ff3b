"""The short way past the schema says the same as the schema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from gateway.domain.names import RESERVED_EVENTS
from ingest_api.plain import load_plain
from ingest_api.schemas import EmitSchema, EmitToRoomSchema

NAMESPACES = ("/", "/events")
SCHEMAS = (EmitSchema(namespaces=NAMESPACES), EmitToRoomSchema(namespaces=NAMESPACES))
NAMES = st.one_of(
    st.text(max_size=5),
    st.text(alphabet=st.characters(max_codepoint=127), min_size=1, max_size=300),
    st.sampled_from([*RESERVED_EVENTS, ".", "..", "org:7", "a" * 128, "a" * 129, "a" * 200, "a" * 201]),
)
VALUES = st.one_of(NAMES, st.none(), st.booleans(), st.integers(), st.lists(NAMES, max_size=3))
BODIES = st.dictionaries(
    st.sampled_from(["event", "data", "room", "rooms", "namespace", "args", "x"]), VALUES
)
LIKELY = st.fixed_dictionaries({"event": NAMES, "data": VALUES}, optional={"room": NAMES, "volatile": VALUES})


@pytest.mark.parametrize("schema", SCHEMAS, ids=["user", "room"])
@given(body=st.one_of(BODIES, LIKELY))
def test_what_takes_the_short_way_is_what_the_schema_loads(schema: EmitSchema, body: dict[str, Any]):
    short = load_plain(body, with_room=schema.to_room, namespaces=schema.namespaces)

    if short is not None:
        assert schema.load(body) == short


@pytest.mark.parametrize("schema", SCHEMAS, ids=["user", "room"])
@given(body=st.one_of(BODIES, LIKELY))
def test_what_the_schema_refuses_never_takes_the_short_way(schema: EmitSchema, body: dict[str, Any]):
    try:
        schema.load(body)
    except ValidationError:
        assert load_plain(body, with_room=schema.to_room, namespaces=schema.namespaces) is None


def test_the_usual_bodies_take_the_short_way():
    to_user, to_room = {"event": "note", "data": {}}, {"event": "note", "data": None, "room": "org:7"}

    assert load_plain(to_user, with_room=False, namespaces=NAMESPACES) is not None
    assert load_plain(to_room, with_room=True, namespaces=NAMESPACES) is not None


def test_a_gateway_that_does_not_serve_the_main_namespace_asks_the_schema():
    assert load_plain({"event": "note", "data": 1}, with_room=False, namespaces=("/events",)) is None
