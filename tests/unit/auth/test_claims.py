"""What a signed token may say, and the code that its client is refused with."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import TokenRejected
from gateway.domain.identity import Identity
from tests.unit.auth.issuer import NOW, claims, raw_token, token, verifier

HEADER = b'{"alg":"HS256","typ":"JWT"}'


async def refusal(content: dict[str, object], **options: object) -> TokenRejected:
    with pytest.raises(TokenRejected) as refused:
        await verifier(**options).verify(token(content))
    return refused.value


async def accepted(text: str, **options: object) -> str:
    """The user that the token is accepted for."""
    identity = await verifier(**options).verify(text)
    return identity.user


async def test_a_token_becomes_the_identity_that_it_speaks_of():
    content = claims(
        email="alice@example.com", orgId="7", tenant_id=3, role=["admin", "editor"], rooms=["news"]
    )

    identity = await verifier().verify(token(content))

    assert identity == Identity(
        user="alice",
        rooms=frozenset({"user:alice", "org:7", "tenant:3", "role:admin", "role:editor", "news"}),
        expires_at=NOW + 3600,
        issued_at=NOW,
        email="alice@example.com",
    )


@pytest.mark.parametrize(
    ("sub", "user"), [("42", "42"), (42, "42"), (0, "0"), (-7, "-7"), ("a/b ü", "a/b ü")]
)
async def test_the_subject_is_a_string_or_an_integer(sub: object, user: str):
    identity = await verifier().verify(raw_token(HEADER, json.dumps(claims(sub=sub)).encode()))

    assert identity.user == user
    assert identity.rooms == {f"user:{user}"}


@pytest.mark.parametrize(
    "sub", ["", True, False, 4.2, [], {}, ["alice"], "x" * 129, ".", "..", "a\nb", "\ud800", 10**130]
)
async def test_any_other_subject_is_refused(sub: object):
    with pytest.raises(TokenRejected) as refused:
        await verifier().verify(raw_token(HEADER, json.dumps(claims(sub=sub)).encode()))

    assert refused.value.code == "token_invalid"
    assert "sub" in refused.value.message


@pytest.mark.parametrize("name", ["sub", "exp"])
@pytest.mark.parametrize("how", ["absent", "null"])
async def test_a_token_without_subject_or_end_is_refused(name: str, how: str):
    content = claims(**{name: None})
    if how == "null":
        content[name] = None

    refused = await refusal(content)

    assert refused.code == "token_claim_missing"
    assert name in refused.message


async def test_a_token_without_an_end_is_accepted_where_that_was_switched_off():
    identity = await verifier(require_exp=False).verify(token(claims(exp=None, iat=None)))

    assert identity.expires_at is None
    assert identity.issued_at is None


async def test_a_token_ends_at_its_end():
    assert (await refusal(claims(exp=int(NOW)))).code == "token_expired"
    assert (await verifier().verify(token(claims(exp=NOW + 0.5)))).expires_at == NOW + 0.5


async def test_leeway_lets_a_token_in_a_little_late():
    late = token(claims(exp=int(NOW) - 9))

    identity = await verifier(leeway_seconds=10).verify(late)

    assert identity.expires_at == NOW - 9
    assert (await refusal(claims(exp=int(NOW) - 10), leeway_seconds=10)).code == "token_expired"


@pytest.mark.parametrize("name", ["nbf", "iat"])
async def test_a_token_from_the_future_is_not_active(name: str):
    future = {name: int(NOW) + 5}

    assert (await refusal(claims(**future), leeway_seconds=4)).code == "token_not_active"
    assert await accepted(token(claims(**future)), leeway_seconds=5) == "alice"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", ['"1800003600"', "true", "[]", "{}", "-1", "1e400", "1" + "0" * 400, "1800003600000"]
)
async def test_a_date_that_is_no_date_is_refused(name: str, value: str):
    content = json.dumps(claims(**{name: "here"})).replace('"here"', value)

    with pytest.raises(TokenRejected) as refused:
        await verifier().verify(raw_token(HEADER, content.encode()))

    assert refused.value.code == "token_invalid"
    assert name in refused.value.message


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1" * 5000])
async def test_a_number_that_json_does_not_have_is_malformed(value: str):
    content = json.dumps(claims(exp="here")).replace('"here"', value)

    with pytest.raises(TokenRejected) as refused:
        await verifier().verify(raw_token(HEADER, content.encode()))

    assert refused.value.code == "token_malformed"


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"null", b'"x"', b"{", b"\xff", b"[" * 5000, b'{"a":' * 1000]
)
async def test_a_payload_that_is_no_object_is_malformed(payload: bytes):
    with pytest.raises(TokenRejected) as refused:
        await verifier().verify(raw_token(HEADER, payload))

    assert refused.value.code == "token_malformed"


async def test_the_audience_is_checked_when_set():
    options = {"audience": ("app", "admin")}

    assert await accepted(token(claims(aud="app")), **options) == "alice"
    assert await accepted(token(claims(aud=["other", "admin"])), **options) == "alice"
    assert (await refusal(claims(aud="other"), **options)).code == "token_audience_invalid"
    assert (await refusal(claims(aud=[]), **options)).code == "token_audience_invalid"
    assert (await refusal(claims(aud=[["app"], {}, 1]), **options)).code == "token_audience_invalid"
    assert (await refusal(claims(aud=5), **options)).code == "token_audience_invalid"
    assert (await refusal(claims(), **options)).code == "token_claim_missing"
    assert await accepted(token(claims(aud="anything"))) == "alice"


@pytest.mark.parametrize("issuer", [("https://id.example",), ("https://id.example", "https://old.example")])
async def test_the_issuer_is_checked_when_set(issuer: object):
    assert await accepted(token(claims(iss="https://id.example")), issuer=issuer) == "alice"
    assert (
        await refusal(claims(iss="https://id.example.evil"), issuer=issuer)
    ).code == "token_issuer_invalid"
    assert (await refusal(claims(iss="https://id"), issuer=issuer)).code == "token_issuer_invalid"
    assert (await refusal(claims(), issuer=issuer)).code == "token_claim_missing"
    assert await accepted(token(claims(iss="anybody"))) == "alice"


async def test_an_issuer_that_is_no_string_is_not_ours():
    with pytest.raises(TokenRejected) as refused:
        await verifier(issuer=("x",)).verify(raw_token(HEADER, json.dumps(claims(iss=["x"])).encode()))

    assert refused.value.code == "token_issuer_invalid"


async def test_a_token_may_not_outlive_its_revocation():
    day = 86_400.0

    assert await accepted(token(claims(exp=NOW + day)), max_lifetime_seconds=day) == "alice"
    refused = await refusal(claims(exp=NOW + day + 1), max_lifetime_seconds=day)
    assert refused.code == "token_invalid"
    assert "86400 s" in refused.message
    # Most of its life is over: what counts is the whole of it, if the token says when it began.
    assert (
        await refusal(claims(iat=NOW - day, exp=NOW + 1), max_lifetime_seconds=day)
    ).code == "token_invalid"
    assert await accepted(token(claims(iat=None, exp=NOW + day)), max_lifetime_seconds=day) == "alice"


@pytest.mark.parametrize("value", [True, 4.2, {}, [["7"]], [None], "", [""], "a\nb", "x" * 200])
async def test_a_claim_that_cannot_be_a_room_is_refused(value: object):
    refused = await refusal(claims(orgId=value))

    assert refused.code == "token_invalid"
    assert "orgId" in refused.message


@pytest.mark.parametrize("value", [[], None])
async def test_a_claim_of_nothing_grants_nothing(value: object):
    identity = await verifier().verify(raw_token(HEADER, json.dumps({**claims(), "orgId": value}).encode()))

    assert identity.rooms == {"user:alice"}


async def test_rooms_are_granted_verbatim_because_the_token_is_signed():
    identity = await verifier().verify(token(claims(rooms=["user:bob", "org:7", "lobby", 5])))

    assert identity.rooms == {"user:alice", "user:bob", "org:7", "lobby", "5"}
    assert (await verifier().verify(token(claims(rooms="lobby")))).rooms == {"user:alice", "lobby"}
    assert (await refusal(claims(rooms=["ok", ""]))).code == "token_invalid"


async def test_which_claims_grant_rooms_is_configurable():
    mapping = {"https://example.com/teams": "team:", "rooms": "custom:"}
    content = claims(**{"https://example.com/teams": ["red"], "rooms": ["a"], "orgId": "7"})

    identity = await verifier(room_claims=mapping).verify(token(content))

    assert identity.rooms == {"user:alice", "team:red", "custom:a"}


async def test_an_email_that_is_no_string_is_left_out():
    assert (await verifier().verify(token(claims(email=5)))).email is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["sub", "exp", "iat", "nbf", "aud", "iss", "rooms", "orgId", "role", "email"])


@given(changes=st.dictionaries(NAMES, JSON, min_size=1))
def test_a_signed_token_is_accepted_or_refused_but_never_breaks_anything(changes: dict[str, object]):
    text = raw_token(HEADER, json.dumps({**claims(), **changes}).encode())
    gate = verifier(audience=("app",), issuer=("us",), max_lifetime_seconds=1e9)

    with contextlib.suppress(TokenRejected):
        asyncio.run(gate.verify(text))
