"""Socket data: JSON merge patches, and the bytes of the JSON."""

from __future__ import annotations

import pytest

from gateway.domain.socket_data import (
    MAX_DATA_BYTES,
    DataTooLarge,
    StoredData,
    encode_data,
    merge_members,
    merge_patch,
)


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        # RFC 7396, Appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        # and a null inside of a list, which is a value
        ({"a": [1]}, {"a": [None]}, {"a": [None]}),
    ],
)
def test_merge_patch_is_applied_as_the_standard_has_it(
    target: object, patch: object, expected: object
) -> None:
    before = repr(target)

    assert merge_patch(target, patch) == expected
    assert repr(target) == before


def test_members_that_an_answer_sets_replace_whole_values() -> None:
    before = {"a": {"b": 1}, "c": 2}

    assert merge_members(before, {"a": {"d": 1}, "c": None}) == {"a": {"d": 1}}


def test_the_bytes_of_the_json_are_limited() -> None:
    longest = {"t": "ä" * ((MAX_DATA_BYTES - len('{"t":""}')) // 2)}

    assert len(encode_data(longest).encode()) == MAX_DATA_BYTES
    with pytest.raises(DataTooLarge):
        encode_data({**longest, "u": 1})


def test_half_of_a_surrogate_pair_is_kept() -> None:
    text = encode_data({"t": "\ud800ä"})

    assert StoredData(1, text).data == {"t": "\ud800ä"}
    text.encode()


def test_infinite_numbers_have_no_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_data({"n": float("inf")})
