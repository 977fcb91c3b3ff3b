"""Pointers name base64 strings, which become attachments; everything else keeps its text."""

from __future__ import annotations

import base64
import json
import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.attachments import (
    MAX_POINTER_CHARACTERS,
    PLACEHOLDER,
    attach_at_once,
    is_pointer,
    placeholder,
    with_base64,
    with_buffers,
)

BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
TEXTS = st.text(alphabet='ab0"\\[]{},:/~\u00e9\U0001f600 ', max_size=4)
VALUES = st.recursive(
    st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.binary(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def without_bytes(value: Any, path: str, found: dict[str, bytes]) -> Any:
    """Return a value with base64 instead of bytes, and add these to ``found`` by their pointer."""
    if isinstance(value, bytes):
        found[path] = value
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [without_bytes(each, f"{path}/{index}", found) for index, each in enumerate(value)]
    if isinstance(value, dict):
        return {
            name: without_bytes(each, f"{path}/{name.replace('~', '~0').replace('/', '~1')}", found)
            for name, each in value.items()
        }
    return value


def with_bytes(value: Any, attachments: list[bytes]) -> Any:
    """Do what a client does: replace placeholders by their attachments."""
    if isinstance(value, list):
        return [with_bytes(each, attachments) for each in value]
    if isinstance(value, dict):
        if value.get(PLACEHOLDER) is True:
            return attachments[value["num"]]
        return {name: with_bytes(each, attachments) for name, each in value.items()}
    return value


@st.composite
def written(draw: st.DrawFn) -> tuple[Any, dict[str, bytes], str]:
    """Draw the value of ``data``, its buffers by their pointers, and its text in one of the forms of JSON."""
    value, found = draw(VALUES), dict[str, bytes]()
    plain = without_bytes(value, "/data", found)
    text = json.dumps(plain, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 0, 1])))
    return value, found, text.replace("/", "\\/") if draw(st.booleans()) else text  # as PHP writes slashes


@given(drawn=st.lists(written(), max_size=3), has_args=st.booleans(), order=st.randoms(use_true_random=False))
def test_client_gets_the_bytes_at_each_pointer_and_all_else_as_it_was(
    drawn: list[tuple[Any, dict[str, bytes], str]], has_args: bool, order: random.Random
) -> None:
    drawn = drawn if has_args else drawn[:1]
    found = {
        pointer.replace("/data", f"/args/{index}", 1) if has_args else pointer: value
        for index, (_, buffers, _) in enumerate(drawn)
        for pointer, value in buffers.items()
    }
    pointers = list(found)
    order.shuffle(pointers)

    attached = attach_at_once([text for _, _, text in drawn], pointers, has_args=has_args)

    assert attached.problems == {}
    attachments = [base64.b64decode(each, validate=True) for each in attached.attachments]
    assert attachments == [found[pointer] for pointer in pointers]
    read = [with_bytes(json.loads(text), attachments) for text in attached.arguments]
    assert read == [value for value, _, _ in drawn]


def test_text_around_a_buffer_is_kept_byte_for_byte() -> None:
    text = '{ "n" : 1.0,\t"image":"AAE=" ,"e":"\\u00e9", "n":1e400}'

    attached = attach_at_once([text], ["/data/image"], has_args=False)

    assert attached.arguments == (text.replace('"AAE="', placeholder(0)),)
    assert attached.attachments == ("AAE=",)


@pytest.mark.parametrize(
    ("text", "pointers", "problems"),
    [
        ('{"a":1}', ["/data/a"], {"binary.0": "points to no string"}),
        ('{"a":null}', ["/data/a"], {"binary.0": "points to no string"}),
        ('{"a":{"b":""}}', ["/data/a"], {"binary.0": "points to no string"}),
        ('{"a":"AAAA"}', ["/data/b"], {"binary.0": "points to no string"}),
        ('{"a":"AAAA"}', ["/data/a/b"], {"binary.0": "points to no string"}),
        ('{"a":"AAAA"}', ["/args/0/a"], {"binary.0": "points to no string"}),
        ('["AAAA"]', ["/data/1"], {"binary.0": "points to no string"}),
        ('["AAAA"]', ["/data/00"], {"binary.0": "points to no string"}),
        ('["AAAA"]', ["/data/-"], {"binary.0": "points to no string"}),
        ('{"a":"AAAA"}', ["/data"], {"binary.0": "points to no string"}),
        ('{"a":"AAAA"}', ["/data/a", "/data/a"], {"binary.1": "names the same string as binary.0"}),
        ('{"~":"AAAA"}', ["/data/~0", "/data/~0"], {"binary.1": "names the same string as binary.0"}),
        ('{"a":["AAAA"]}', ["/data/a/0", "/data/a"], {"binary.1": "points to no string"}),
        ('{"a":"AAAA","a":"AAAB"}', ["/data/a"], {"binary.0": "names a member that is repeated"}),
        ('{"a":"AAAA","\\u0061":1}', ["/data/a"], {"binary.0": "names a member that is repeated"}),
        (
            '{"a":{"b":"AAAA"},"a":{}}',
            ["/data/a/b"],
            {"binary.0": "names a member that is repeated"},
        ),
    ],
)
def test_pointer_that_names_no_string_is_a_problem(
    text: str, pointers: list[str], problems: dict[str, str]
) -> None:
    assert attach_at_once([text], pointers, has_args=False).problems == problems


@pytest.mark.parametrize(
    "text", ["A", "AA", "AAA", "AA=", "A===", "====", "AA==AAAA", "AA=A", "AA-_", "A A=", "é===", "AAAA\n"]
)
def test_string_that_is_not_base64_with_padding_is_a_problem(text: str) -> None:
    attached = attach_at_once([json.dumps([text])], ["/args/0/0"], has_args=True)

    assert attached.problems == {"binary.0": "points to a string that is not base64 with padding"}


@given(text=st.one_of(st.text(alphabet="AQZaz09+/=-\n", max_size=12), st.from_regex(BASE64, fullmatch=True)))
def test_string_is_accepted_if_and_only_if_it_has_the_form_of_base64(text: str) -> None:
    attached = attach_at_once([json.dumps(text)], ["/data"], has_args=False)

    assert (not attached.problems) == bool(BASE64.fullmatch(text))


@pytest.mark.parametrize(
    "lookalike",
    [
        '{"_placeholder":true,"num":0}',
        '{"a":[{"_placeholder":true,"num":1}]}',
        '{"\\u005fplaceholder":true,"num":0}',
        '{"_placeholder":1}',
    ],
)
def test_object_that_clients_take_for_a_placeholder_is_a_problem_in_every_argument(lookalike: str) -> None:
    problem = "has a member '_placeholder', which clients take for an attachment"

    assert attach_at_once(['"AAAA"', lookalike], ["/args/0"], has_args=True).problems == {"args.1": problem}
    in_data = attach_at_once([f'{{"x":{lookalike},"b":"AAAA"}}'], ["/data/b"], has_args=False)
    assert in_data.problems == {"data": problem}


def test_text_with_the_name_of_a_placeholder_is_accepted() -> None:
    text = '{"a":"_placeholder","b":["\\"_placeholder\\":"],"c":"AAAA"}'

    assert attach_at_once([text], ["/data/c"], has_args=False).problems == {}


@pytest.mark.parametrize("text", ["/data", "/data/", "/args/0", "/args/15/a~0~1/0", "/data/\u00e9 \n"])
def test_pointer_into_an_argument_is_a_pointer(text: str) -> None:
    assert is_pointer(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "data",
        "#/data",
        "/args",
        "/args/",
        "/args/16",
        "/args/00",
        "/event",
        "/data/~",
        "/data/~2",
        "/datax",
        "/data" + "/a" * (MAX_POINTER_CHARACTERS // 2),
    ],
)
def test_other_text_is_no_pointer(text: str) -> None:
    assert not is_pointer(text)


@given(value=VALUES)
def test_buffers_of_decoded_values_are_put_back_where_they_were(value: Any) -> None:
    pointers: list[str] = []
    members = {"ack": with_base64(value, "/ack", pointers)}

    assert json.loads(json.dumps(members)) == members
    assert with_buffers(members, pointers) == {"ack": value}


@pytest.mark.parametrize(
    "pointer", ["/ack/b", "/ack/l/2", "/ack/l/00", "/ack/l/-", "/ack/n", "/ack/n/x", "/ack/t", "/x"]
)
def test_pointer_into_a_decoded_value_that_names_no_base64_is_an_error(pointer: str) -> None:
    with pytest.raises(ValueError, match=f"^binary: {pointer} points to "):
        with_buffers({"ack": {"l": ["AAE=", 1], "n": None, "t": "AAE"}}, [pointer])
