"""The places of a token: a bad value never falls through to the next place."""

from __future__ import annotations

import pytest

from gateway.domain.errors import TokenRejected
from gateway.socketio_server.connect_handshake import find_token
from gateway.transport.session import Handshake


def handshake(*, authorization: str | None = None, query: str | None = None) -> Handshake:
    return Handshake(authorization=authorization, query_token=query, address="192.0.2.1")


@pytest.mark.parametrize(
    ("auth", "authorization", "query", "expected"),
    [
        ({"token": "a"}, "Bearer b", "c", "a"),
        ({}, "Bearer b", "c", "b"),
        ({"token": None}, "bearer  b ", "c", "b"),
        (None, None, "c", "c"),
        ("a", None, "c", "c"),
        (["a"], None, "c", "c"),
    ],
)
def test_token_is_taken_from_the_first_place_that_has_one(
    auth: object, authorization: str | None, query: str | None, expected: str
) -> None:
    assert find_token(auth, handshake(authorization=authorization, query=query)) == expected


@pytest.mark.parametrize(
    ("auth", "authorization", "query", "code"),
    [
        (None, None, None, "token_missing"),
        ({}, None, None, "token_missing"),
        ({"token": ""}, "Bearer b", "c", "token_malformed"),
        ({"token": 7}, "Bearer b", "c", "token_malformed"),
        ({"token": {}}, None, None, "token_malformed"),
        ({"token": False}, None, "c", "token_malformed"),
        (None, "Basic b", "c", "token_malformed"),
        (None, "Bearer", "c", "token_malformed"),
        (None, "Bearer ", "c", "token_malformed"),
        (None, "", "c", "token_malformed"),
        (None, None, "", "token_malformed"),
    ],
)
def test_value_that_is_no_token_is_rejected_and_no_other_place_is_read(
    auth: object, authorization: str | None, query: str | None, code: str
) -> None:
    with pytest.raises(TokenRejected) as rejected:
        find_token(auth, handshake(authorization=authorization, query=query))
    assert rejected.value.code == code
