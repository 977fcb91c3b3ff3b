"""``fast_parse`` returns the same as JSON parser and schema."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.names import RESERVED_EVENTS
from ingest_api.errors import Problem
from ingest_api.large_body import LARGE_BYTES
from ingest_api.push import fast_parse, fast_push, parse_push
from ingest_api.schemas import EmitSchema, EmitToRoomSchema

NAMESPACES = ("/", "/events")
SCHEMAS = (EmitSchema(namespaces=NAMESPACES), EmitToRoomSchema(namespaces=NAMESPACES))
NAMES = st.one_of(
    st.text(max_size=5),
    st.text(alphabet=st.characters(max_codepoint=127), min_size=1, max_size=300),
    st.sampled_from([*RESERVED_EVENTS, ".", "..", "org:7", "a" * 128, "a" * 129, "a" * 300, "a" * 301]),
)
VALUES = st.recursive(
    st.one_of(NAMES, st.none(), st.booleans(), st.integers(), st.floats()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
SPACE = st.text(alphabet=" \t\n\r\f\v\xa0", max_size=2)
MEMBER = st.tuples(
    st.sampled_from(["event", "data", "room", "rooms", "namespace", "x"]), st.one_of(NAMES, VALUES)
)
LIKELY = st.permutations(["event", "room", "data"]).flatmap(
    lambda names: st.tuples(
        *(st.tuples(st.just(name), VALUES if name == "data" else NAMES) for name in names)
    )
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON objects with repeated members and unusual white space, some of them with invalid bytes."""
    members = draw(st.one_of(st.lists(MEMBER, max_size=4), LIKELY, LIKELY.map(lambda all_: all_[:2])))
    written = [
        f"{draw(SPACE)}{json.dumps(name)}{draw(SPACE)}:{draw(SPACE)}"
        f"{json.dumps(value, ensure_ascii=draw(st.booleans()))}{draw(SPACE)}"
        for name, value in members
    ]
    text = f"{draw(SPACE)}{{{','.join(written)}}}{draw(SPACE)}"
    body = text.encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        return body
    at = draw(st.integers(0, len(body)))
    return body[:at] + draw(st.binary(max_size=2)) + body[at + draw(st.integers(0, 2)) :]


@pytest.mark.parametrize("schema", SCHEMAS, ids=["user", "room"])
@given(body=bodies())
@example(body=b'{"event":"e","data":1,"data":2}')
@example(body=b'{"event":"e","event":"f","data":2}')
@example(body=b'{"room":"a","event":"e","room":"b","data":2}')
@example(body=b'{"room":"a","event":"e","data":"\\ud800"}')
@example(body=b'{"event":"e","data":NaN}')
@example(body=b'\xef\xbb\xbf{"event":"e","data":1}')
@example(body=b'{"event":"e","data":' + b"[" * 65 + b"]" * 65 + b"}")
def test_fast_parse_returns_the_same_as_parse_push(schema: EmitSchema, body: bytes) -> None:
    if fast_parse(body, with_room=schema.to_room) is None:
        return

    assert fast_push(schema, body) == parse_push(schema, body, now=0.0)


@pytest.mark.parametrize("schema", SCHEMAS, ids=["user", "room"])
@given(body=bodies())
def test_fast_parse_accepts_nothing_that_parse_push_rejects(schema: EmitSchema, body: bytes) -> None:
    try:
        parse_push(schema, body, now=0.0)
    except Problem:
        assert fast_parse(body, with_room=schema.to_room) is None


@pytest.mark.parametrize(
    ("body", "with_room"),
    [
        (b'{"event":"note","data":{}}', False),
        (b'{"event": "note", "data": {"text": "Gr\xc3\xbc\xc3\x9fe"}}\n', False),
        (b'{"event":"note","data":null,"room":"org:7"}', True),
        (b'{"room":"org:7","event":"note","data":null}', True),
        (b'{\n  "event": "note",\n  "room": "org:7",\n  "data": [1, "\\u00e9"]\n}', True),
    ],
)
def test_common_bodies_take_the_fast_path(body: bytes, with_room: bool) -> None:
    assert fast_parse(body, with_room=with_room) is not None


def test_gateway_without_the_main_namespace_does_not_use_fast_parse() -> None:
    assert fast_push(EmitSchema(namespaces=("/events",)), b'{"event":"note","data":1}') is None


def test_large_body_is_not_read_in_one_step() -> None:
    body = b'{"event":"note","data":"%b"}' % (b"x" * LARGE_BYTES)

    assert fast_parse(body, with_room=False) is not None
    assert fast_push(SCHEMAS[0], body) is None


def test_long_white_space_is_read_once() -> None:
    body = b'{"event":"e",' + b" " * 1_000_000 + b'"date":1}'

    assert fast_parse(body, with_room=True) is None
