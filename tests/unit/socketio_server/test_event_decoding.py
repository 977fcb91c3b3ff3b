"""``packets.decode_event`` beside the decoder of python-socketio, over generated packets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from socketio import packet

from gateway.domain.errors import ClientEventRejected
from gateway.services.client_events.rules import MAX_DEPTH, check_values
from gateway.socketio_server.packets import decode_event


class Packet(packet.Packet):  # type: ignore[misc]
    """As ``PacketServer`` has python-socketio decode."""

    json = json


def nested(levels: int, *, inside: object = 1) -> object:
    """Return a value in so many arrays."""
    return [nested(levels - 1, inside=inside)] if levels else inside


EDGES = st.sampled_from(
    [2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**18, 10**19, 10**400, 0.1, 1e16, 2.0**63, 1e300]
)
NUMBERS = st.integers() | EDGES | EDGES.map(lambda number: -number) | st.floats()
TEXTS = st.text(st.characters(), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.integers(MAX_DEPTH - 3, MAX_DEPTH + 3).map(nested),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["ask", "", "a-b", "[", "/x,1"]) | TEXTS | VALUES
ACK_IDS = (
    "",
    "0",
    "12",
    "007",
    "9" * 18,
    "9" * 19,
    "9" * 101,
    "-1",
    "x",
    " ",
    "٣",
    "²",
    "1٣",
    "1-",
    "1-/chat,",
)
PREFIXES = ("/chat,", "/chat,5", "/,3", "/", "/chat", "/a?b,", "/a[b,", "/a,b,1")
HEADS = st.sampled_from((*ACK_IDS, *PREFIXES))
PACKETS = st.builds(
    lambda kind, head, values, ascii_only: f"{kind}{head}{json.dumps(values, ensure_ascii=ascii_only)}",
    st.sampled_from("2222220345679x٢"),
    HEADS,
    st.builds(lambda name, arguments: [name, *arguments], NAMES, st.lists(VALUES, max_size=3)) | VALUES,
    st.booleans(),
)
CHARACTERS = st.sampled_from('[]{}",:\\0159eE+-. \n\t\x00/?NaN\ud800é') | st.characters()
CHANGED = st.builds(
    lambda text, at, character, cut: (
        text[: at % (len(text) + 1)] + character + text[at % (len(text) + 1) + cut :]
    ),
    PACKETS,
    st.integers(0, 200),
    CHARACTERS | st.just(""),
    st.integers(0, 2),
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(-1e18, 1e18)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=500)
@given(text=PACKETS | CHANGED | st.text(CHARACTERS, max_size=12).map("2".__add__))
@example('2["ask",{"a":1,"b":2,"a":3}]')
@example('2["ask",18446744073709551616]')
@example('2["ask",-9223372036854775809]')
@example('2["ask",1e400]')
@example('2["ask",-0,-0.0,1E5,1.0]')
@example('2["ask",NaN]')
@example('2["ask","\\ud800"]')
@example('2["ask","\\ud83d\\ude00"]')
@example('2["ask"] \n')
@example("2[]")
def test_decoded_event_is_what_python_socketio_decodes(text: str) -> None:
    decoded = decode_event(text)
    if decoded is None:
        return
    reference = Packet(encoded_packet=text)

    assert (reference.packet_type, reference.attachment_count) == (packet.EVENT, 0)
    assert (decoded.namespace, decoded.ack_id) == (reference.namespace or "/", reference.id)
    # Unlike ==, repr differs between integers, floats and booleans, and between two orders of members.
    assert repr(reference.data) == repr(decoded.values)


@settings(max_examples=500)
@given(text=PACKETS)
def test_arguments_of_a_decoded_event_pass_their_check(text: str) -> None:
    decoded = decode_event(text)

    if decoded is not None:
        check_values(decoded.values[1:])


@given(
    head=st.sampled_from(["", "0", "12", "/chat,", "/chat,5"]),
    name=st.text(max_size=8),
    arguments=st.lists(PLAIN, max_size=3),
)
def test_event_of_usual_form_is_decoded_here(head: str, name: str, arguments: list[Any]) -> None:
    assert decode_event(f"2{head}{json.dumps([name, *arguments])}") is not None


@pytest.mark.parametrize(("levels", "is_decoded"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_deepest_argument_that_is_decoded_is_the_deepest_that_is_valid(levels: int, is_decoded: bool) -> None:
    value = nested(levels)

    assert (decode_event(f"2{json.dumps(['ask', value])}") is not None) == is_decoded
    if is_decoded:
        check_values([value])
    else:
        with pytest.raises(ClientEventRejected, match="nested deeper"):
            check_values([value])
