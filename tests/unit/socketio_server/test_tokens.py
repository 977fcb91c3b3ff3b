"""The places of a token: a bad value never falls through to the next place."""

from __future__ import annotations

import pytest

from gateway.domain.errors import TokenRejected
from gateway.socketio_server.connect_handshake import find_token
from gateway.transport.admission import Handshake

JWT = "aaaa.bbbb.cccc"


def handshake(
    *, authorization: str | None = None, query: str | None = None, cookie: str | None = None
) -> Handshake:
    return Handshake(authorization=authorization, query_token=query, cookie_token=cookie, address="192.0.2.1")


@pytest.mark.parametrize(
    ("auth", "authorization", "query", "cookie", "expected"),
    [
        ({"token": "a"}, "Bearer b", "c", "d", "a"),
        ({}, "Bearer b", "c", "d", "b"),
        ({"token": None}, "bearer  b ", "c", "d", "b"),
        (None, None, "c", "d", "c"),
        (None, None, None, "d", "d"),
        ("a", None, "c", None, "c"),
        (["a"], None, "c", None, "c"),
        ({"token": "Bearer a"}, None, None, None, "a"),
        ({"token": "bEARER\ta\n"}, None, None, None, "a"),
        ({"token": " a "}, None, None, None, "a"),
        ({"token": "Bearera"}, None, None, None, "Bearera"),
        (None, "BEARER b", None, None, "b"),
        (None, JWT, "c", None, JWT),
        (None, None, "Bearer c", None, "c"),
        (None, None, None, "Bearer d", "d"),
        (None, "Basic eDp5", "c", None, "c"),
        (None, "Basic eDp5", None, "d", "d"),
        (None, "Digest username=x, realm=a.b.c", "c", None, "c"),
        (None, "Negotiate YII=", "c", None, "c"),
        (None, "", "c", None, "c"),
        (None, " ", "c", None, "c"),
        ({"token": ""}, f"Bearer {JWT}", "c", "d", JWT),
        ({"token": " "}, None, "c", "d", "c"),
        ({"token": "Bearer "}, None, None, "d", "d"),
        (None, "Bearer", "c", "d", "c"),
        (None, "bearer ", None, "d", "d"),
        (None, None, "", "d", "d"),
        (None, None, "bearer", "d", "d"),
    ],
)
def test_token_is_taken_from_the_first_place_that_has_one(
    auth: object, authorization: str | None, query: str | None, cookie: str | None, expected: str
) -> None:
    found = find_token(auth, handshake(authorization=authorization, query=query, cookie=cookie))

    assert found == expected


@pytest.mark.parametrize(
    ("auth", "authorization", "query", "code"),
    [
        (None, None, None, "token_missing"),
        ({}, None, None, "token_missing"),
        (None, "Basic b", None, "token_missing"),
        ({"token": ""}, "Bearer", " ", "token_missing"),
        ({"authorization": f"Bearer {JWT}"}, None, None, "token_missing"),
        ({"token": 7}, "Bearer b", "c", "token_malformed"),
        ({"token": {}}, None, None, "token_malformed"),
        ({"token": False}, None, "c", "token_malformed"),
    ],
)
def test_value_that_is_no_token_is_rejected_and_no_other_place_is_read(
    auth: object, authorization: str | None, query: str | None, code: str
) -> None:
    cookie = None if code == "token_missing" else "d"
    with pytest.raises(TokenRejected) as rejected:
        find_token(auth, handshake(authorization=authorization, query=query, cookie=cookie))
    assert rejected.value.code == code


def test_missing_token_is_explained_by_fields_of_other_servers_without_their_values() -> None:
    with pytest.raises(TokenRejected) as rejected:
        find_token({"authorization": JWT, "accessToken": "x", "secret": "y"}, handshake())

    assert (
        "(auth has authorization and accessToken, which the gateway does not read)" in rejected.value.message
    )
    assert JWT not in rejected.value.message
