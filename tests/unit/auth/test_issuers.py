"""Several issuers: which keys verify a token, and of which users it may be."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from jwt.algorithms import get_default_algorithms

from gateway.auth import jwks
from gateway.domain.errors import KeysUnavailable, TokenRejected
from gateway.domain.identity import Identity
from gateway.domain.issuers import TokenIssuer
from tests.support.clock import FakeClock, FakeSchedule
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.auth.issuer import (
    NOW,
    SECRET,
    base64url,
    claims,
    ec_key,
    jwk,
    key_set,
    public_pem,
    raw_token,
    rsa_key,
    token,
    verifier,
)

A, B = "https://a.example/", "https://b.example/"
SECRET_A, SECRET_B = "the secret of issuer A, 32 bytes or more", "the secret of issuer B, 32 bytes or more"
ISSUER_A = TokenIssuer(issuer=A, secrets=(SECRET_A,), algorithms=("HS256",), users="a:")
ISSUER_B = TokenIssuer(issuer=B, secrets=(SECRET_B,), algorithms=("HS256",), users="b:")
RSA_B = TokenIssuer(issuer=B, public_key=public_pem(rsa_key("b")), algorithms=("RS256",), users="b:")


async def identity_of(text: str, *issuers: TokenIssuer, **options: Any) -> Identity:
    return await verifier(issuers=issuers or (ISSUER_A, ISSUER_B), **options).verify(text)


async def code_of(text: str, *issuers: TokenIssuer, **options: Any) -> str:
    with pytest.raises(TokenRejected) as rejection:
        await identity_of(text, *issuers, **options)
    return rejection.value.code


def only(*issuers: TokenIssuer) -> dict[str, Any]:
    """Options of a verifier without keys of JWT_*."""
    return {"issuers": issuers, "algorithms": (), "secrets": ()}


async def test_token_is_verified_with_the_keys_of_its_issuer_and_gets_its_users() -> None:
    a = await identity_of(token(claims(iss=A, sub="42"), key=SECRET_A))
    b = await identity_of(token(claims(iss=B, sub=42), key=SECRET_B))
    default = await identity_of(token(claims(sub="42")))

    assert [each.user for each in (a, b, default)] == ["a:42", "b:42", "42"]
    assert [each.rooms for each in (a, b)] == [{"user:a:42"}, {"user:b:42"}]
    assert b.subject == 42


@pytest.mark.parametrize("key", [SECRET_A, SECRET])
async def test_issuer_cannot_sign_for_another_one(key: str) -> None:
    assert await code_of(token(claims(iss=B), key=key)) == "token_signature_invalid"


@pytest.mark.parametrize(
    "iss", [None, "https://c.example/", A.rstrip("/"), A.upper(), f"{A} ", "", 7, [A], {A: 1}, True]
)
async def test_token_of_any_other_issuer_is_one_of_the_default_keys(iss: object) -> None:
    text = raw_token(b'{"alg":"HS256"}', json.dumps(claims() | {"iss": iss}).encode())
    forged = raw_token(b'{"alg":"HS256"}', json.dumps(claims() | {"iss": iss}).encode(), secret=SECRET_A)

    assert (await identity_of(text)).user == "alice"
    assert await code_of(forged) == "token_signature_invalid"


@pytest.mark.parametrize(
    ("iss", "code"),
    [
        (None, "token_claim_missing"),
        ("https://c.example/", "token_issuer_invalid"),
        ([A], "token_issuer_invalid"),
    ],
)
async def test_token_of_no_entry_is_rejected_without_default_keys(iss: object, code: str) -> None:
    with pytest.raises(TokenRejected) as rejection:
        await verifier(**only(ISSUER_A)).verify(
            raw_token(b'{"alg":"HS256"}', json.dumps(claims() | {"iss": iss}).encode())
        )

    assert rejection.value.code == code


@pytest.mark.parametrize("name", ["kid", "jku", "x5u", "iss"])
async def test_header_never_chooses_the_issuer(name: str) -> None:
    """A token of A that names B in its header, and a token that claims to be A's and has the header of A."""
    of_a = token(claims(iss=A, sub="1"), key=SECRET_A, headers={name: B})
    forged = token(claims(iss=B, sub="1"), key=SECRET_A, headers={name: A})

    assert (await identity_of(of_a)).user == "a:1"
    assert await code_of(forged) == "token_signature_invalid"


async def test_key_id_of_another_issuer_finds_no_key() -> None:
    """B signs with its own key and names the id of a key in the set of A."""
    key_a, key_b = ec_key(name="a"), ec_key(name="b")
    sets = {A: key_set(jwk(key_a, "ES256", kid="k-a")), B: key_set(jwk(key_b, "ES256", kid="k-b"))}

    async def fetch(url: str) -> str:
        return sets[url]

    issuers = [
        TokenIssuer(issuer=each, jwks_url=each, algorithms=("ES256",), users=f"{each[8]}:") for each in (A, B)
    ]
    jwt_verifier = verifier(issuers=issuers, algorithms=(), secrets=(), fetch=fetch)
    await jwt_verifier.prepare()

    def signed(key: Any, iss: str, kid: str) -> str:
        return token(claims(iss=iss, sub="42"), key=key, algorithm="ES256", headers={"kid": kid})

    assert (await jwt_verifier.verify(signed(key_a, A, "k-a"))).user == "a:42"
    assert (await jwt_verifier.verify(signed(key_b, B, "k-b"))).user == "b:42"
    with pytest.raises(TokenRejected) as rejection:
        await jwt_verifier.verify(signed(key_b, A, "k-a"))
    assert rejection.value.code == "token_signature_invalid"


async def test_algorithm_of_one_issuer_is_not_one_of_another() -> None:
    """Algorithm confusion across issuers: an HMAC with the public key of B, which is not secret."""
    pem = public_pem(rsa_key("b"))
    head, payload = base64url(b'{"alg":"HS256"}'), base64url(json.dumps(claims(iss=B)).encode())
    hmac = get_default_algorithms()["HS256"]
    signature = base64url(hmac.sign(f"{head}.{payload}".encode(), pem.encode()))

    assert await code_of(f"{head}.{payload}.{signature}", ISSUER_A, RSA_B) == "token_algorithm_refused"
    as_a = token(claims(iss=A), key=rsa_key("b"), algorithm="RS256")
    assert await code_of(as_a, ISSUER_A, RSA_B) == "token_algorithm_refused"
    of_b = token(claims(iss=B), key=rsa_key("b"), algorithm="RS256")
    assert (await identity_of(of_b, ISSUER_A, RSA_B)).user == "b:alice"


async def test_audience_and_room_claims_are_those_of_the_issuer() -> None:
    issuer = TokenIssuer(
        issuer=B,
        secrets=(SECRET_B,),
        algorithms=("HS256",),
        audience=("push",),
        room_claims={"team": "team:", "rooms": "b-room:"},
        users="b:",
    )
    content = {"iss": B, "team": "x", "role": "admin", "orgId": "7", "rooms": ["news"]}
    text = token(claims(**content, aud="push"), key=SECRET_B)

    assert (await identity_of(text, issuer, audience=("web",))).rooms == {
        "user:b:alice", "team:x", "b-room:news"
    }  # fmt: skip
    web = token(claims(**content, aud="web"), key=SECRET_B)
    assert await code_of(web, issuer, audience=("web",)) == "token_audience_invalid"
    default = token(claims(aud="web", team="x", role="admin"))
    assert (await identity_of(default, issuer, audience=("web",))).rooms == {"user:alice", "role:admin"}


async def test_token_of_the_default_keys_is_of_no_user_of_another_issuer() -> None:
    assert await code_of(token(claims(sub="b:42"))) == "token_invalid"
    assert (await identity_of(token(claims(sub="b42")))).user == "b42"


@pytest.mark.parametrize(
    ("iss", "key", "rooms"),
    [
        (A, SECRET_A, ["user:42"]),
        (A, SECRET_A, ["news", "user:b:42"]),
        (A, SECRET_A, "user:a"),
        (None, SECRET, ["user:b:42"]),
    ],
)
async def test_token_grants_no_room_of_another_issuers_user(iss: str | None, key: str, rooms: object) -> None:
    assert await code_of(token(claims(iss=iss, rooms=rooms), key=key)) == "token_invalid"


async def test_token_grants_rooms_of_users_of_its_own_issuer() -> None:
    text = token(claims(iss=A, rooms=["user:a:43", "users:b:1"]), key=SECRET_A)

    assert (await identity_of(text)).rooms == {"user:a:alice", "user:a:43", "users:b:1"}
    assert (await identity_of(token(claims(rooms=["user:43"])))).rooms == {"user:alice", "user:43"}


@pytest.mark.parametrize("sub", ["", "x" * 255, "\u0301", "a\nb"])
async def test_user_with_the_prefix_is_checked_as_a_whole(sub: str) -> None:
    issuer = TokenIssuer(issuer=A, secrets=(SECRET_A,), algorithms=("HS256",), users="e")

    assert await code_of(token(claims(iss=A) | {"sub": sub}, key=SECRET_A), issuer) == "token_invalid"
    longest = await identity_of(token(claims(iss=A, sub="x" * 254), key=SECRET_A), issuer)
    assert longest.user == "e" + "x" * 254


async def test_same_token_id_of_two_issuers_is_two() -> None:
    ids = [
        (await identity_of(token(claims(iss=iss, jti="1"), key=key))).token_id
        for iss, key in ((A, SECRET_A), (B, SECRET_B), (None, SECRET), ("https://c.example/", SECRET))
    ]

    assert ids == [f"{A} 1", f"{B} 1", " 1", " 1"]


@pytest.mark.parametrize(
    "text",
    ["a", "a.b", "e30.e30", "eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9..", "eyJhbGciOiJIUzI1NiJ9.e30",
     "eyJhbGciOiJIUzI1NiJ9.!.x", "eyJhbGciOiJIUzI1NiJ9.W10.x", "eyJhbGciOiJIUzI1NiJ9." + base64url(b"[" * 9000) + ".x",
     "eyJhbGciOiJIUzI1NiJ9." + base64url(b"\xff") + ".x"],
)  # fmt: skip
async def test_text_that_is_not_a_token_is_rejected_before_an_issuer_is_chosen(text: str) -> None:
    assert await code_of(text) in {"token_malformed", "token_algorithm_refused"}


async def test_second_secret_verifies_and_no_third() -> None:
    options = {"secrets": (SECRET, "an older secret of the issuer, 32 bytes")}

    assert (await verifier(**options).verify(token())).user == "alice"
    older = token(key="an older secret of the issuer, 32 bytes")
    assert (await verifier(**options).verify(older)).user == "alice"
    with pytest.raises(TokenRejected) as rejection:
        await verifier(**options).verify(token(key="x" * 40))
    assert rejection.value.code == "token_signature_invalid"


class Sets:
    """Key sets by URL; one that is missing cannot be fetched."""

    def __init__(self, **texts: str) -> None:
        self.texts = texts
        self.fetched: list[str] = []

    async def fetch(self, url: str) -> str:
        self.fetched.append(url)
        return self.texts[url]


def remote(name: str, **options: Any) -> TokenIssuer:
    return TokenIssuer(issuer=name, jwks_url=name, algorithms=("ES256",), users=f"{name}:", **options)


async def test_key_set_that_is_away_stops_its_own_tokens_only() -> None:
    sets, schedule = Sets(a=key_set(jwk(ec_key(name="a"), "ES256"))), FakeSchedule(FakeClock(NOW))
    jwt_verifier = verifier(
        issuers=(remote("a"), remote("b")), algorithms=(), secrets=(), fetch=sets.fetch, schedule=schedule
    )
    assert not jwt_verifier.is_ready

    with pytest.raises(KeysUnavailable):
        await jwt_verifier.prepare()

    assert jwt_verifier.is_ready
    of_a = token(claims(iss="a"), key=ec_key(name="a"), algorithm="ES256")
    of_b = token(claims(iss="b"), key=ec_key(name="b"), algorithm="ES256")
    assert (await jwt_verifier.verify(of_a)).user == "a:alice"
    verifying = asyncio.create_task(jwt_verifier.verify(of_b))
    await asyncio.sleep(0)
    assert (await jwt_verifier.verify(of_a)).user == "a:alice"
    schedule.advance(jwks.FIRST_PAUSE_SECONDS)
    with pytest.raises(KeysUnavailable):
        await asyncio.wait_for(verifying, TIMEOUT_SECONDS)


async def test_keys_in_the_settings_make_it_ready_while_all_key_sets_are_away() -> None:
    jwt_verifier = verifier(issuers=(remote("b"),), fetch=Sets().fetch)

    with pytest.raises(KeysUnavailable):
        await jwt_verifier.prepare()

    assert jwt_verifier.is_ready
    assert (await jwt_verifier.verify(token())).user == "alice"


async def test_change_of_issuers_keeps_the_key_sets_that_did_not_change() -> None:
    sets = Sets(a=key_set(jwk(ec_key(name="a"), "ES256")), b=key_set(jwk(ec_key(name="b"), "ES256")))
    jwt_verifier = verifier(issuers=(remote("a"), remote("b")), algorithms=(), secrets=(), fetch=sets.fetch)
    await jwt_verifier.prepare()
    sets.texts.clear()

    jwt_verifier.change_keys(
        algorithms=("HS256",), secrets=(SECRET,), issuers=(remote("a", audience=("x",)),)
    )

    assert jwt_verifier.issuers() == {"", "a"}
    of_a = token(claims(iss="a", aud="x"), key=ec_key(name="a"), algorithm="ES256")
    of_b = token(claims(iss="b"), key=ec_key(name="b"), algorithm="ES256")
    assert (await jwt_verifier.verify(of_a)).user == "a:alice"
    with pytest.raises(TokenRejected) as rejection:
        await jwt_verifier.verify(of_b)
    assert rejection.value.code == "token_algorithm_refused"
    assert sets.fetched == ["a", "b"]


def test_wrong_keys_of_an_issuer_change_nothing() -> None:
    jwt_verifier = verifier()

    with pytest.raises(ValueError, match="32 bytes"):
        jwt_verifier.change_keys(
            algorithms=("HS256",),
            secrets=(SECRET,),
            issuers=(TokenIssuer(issuer=A, secrets=("short",), algorithms=("HS256",)),),
        )

    assert jwt_verifier.issuers() == {""}


def test_verifier_without_any_key_is_rejected() -> None:
    with pytest.raises(ValueError, match="are not known"):
        verifier(**only())
