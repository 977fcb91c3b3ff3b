"""The keys of an issuer that changes them, is slow, or is away: a real HTTP server, a real client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import get_default_algorithms

from gateway.auth import JwtVerifier
from gateway.auth.jwk import find_matching, read_key_set
from gateway.domain.errors import KeysUnavailable, TokenRejected
from tests.support.clock import FakeClock
from tests.unit.auth.issuer import (
    NOW,
    SECRET,
    claims,
    ec_key,
    ed_key,
    jwk,
    key_set,
    rsa_key,
    token,
    verifier,
)

ALGORITHMS = ("RS256", "ES256", "EdDSA")


class Issuer:
    """Publishes a key set over HTTP, counts who asks, and fails or waits when told to."""

    def __init__(self) -> None:
        self.text = key_set(jwk(rsa_key("one"), "RS256", kid="one"))
        self.status = 200
        self.fetches = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = asyncio.Event()

    async def publish(self, request: web.Request) -> web.Response:
        self.fetches += 1
        self.asked.set()
        await self.answers.wait()
        return web.Response(text=self.text, status=self.status, content_type="application/json")


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
async def gate(issuer: Issuer, clock: FakeClock) -> AsyncIterator[JwtVerifier]:
    app = web.Application()
    app.router.add_get("/keys", issuer.publish)
    server = TestServer(app)
    await server.start_server()
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def fetch(url: str) -> str:
            async with session.get(url) as answer:
                return await answer.text()

        gate = verifier(
            jwks_url=str(server.make_url("/keys")), fetch=fetch, algorithms=ALGORITHMS, clock=clock
        )
        yield gate
        await gate.close()
    issuer.answers.set()
    await server.close()


def signed(name: str, kid: str | None = "same", **changes: object) -> str:
    """A token that lives long enough for the clock to move, signed by the RSA key of that name."""
    headers = {} if kid is None else {"kid": name if kid == "same" else kid}
    content = claims(exp=int(NOW) + 1_000_000, **changes)
    return token(content, key=rsa_key(name), algorithm="RS256", headers=headers)


async def refusal(gate: JwtVerifier, text: str) -> str:
    with pytest.raises(TokenRejected) as refused:
        await gate.verify(text)
    return refused.value.code


async def test_the_first_token_fetches_the_keys_and_the_next_ones_do_not(gate: JwtVerifier, issuer: Issuer):
    assert not gate.ready

    for _ in range(3):
        assert (await gate.verify(signed("one"))).user == "alice"

    assert gate.ready
    assert issuer.fetches == 1


async def test_the_keys_can_be_fetched_before_the_first_token(gate: JwtVerifier, issuer: Issuer):
    await gate.prepare()
    await gate.prepare()

    assert gate.ready
    assert issuer.fetches == 1


async def test_a_door_that_turns_clients_away_has_the_keys_fetched_meanwhile(
    gate: JwtVerifier, issuer: Issuer
):
    issuer.answers.clear()
    for _ in range(10):
        gate.prefetch()
    await issuer.asked.wait()
    issuer.answers.set()
    await gate.prepare()
    gate.prefetch()

    assert gate.ready
    assert issuer.fetches == 1


async def test_who_waits_for_the_same_keys_shares_one_fetch(gate: JwtVerifier, issuer: Issuer):
    issuer.answers.clear()
    waiting = [asyncio.create_task(gate.verify(signed("one"))) for _ in range(50)]
    await issuer.asked.wait()
    issuer.answers.set()

    identities = await asyncio.gather(*waiting)

    assert {identity.user for identity in identities} == {"alice"}
    assert issuer.fetches == 1


async def test_who_goes_away_takes_the_keys_from_nobody_else(gate: JwtVerifier, issuer: Issuer):
    issuer.answers.clear()
    first, second = (asyncio.create_task(gate.verify(signed("one"))) for _ in range(2))
    await issuer.asked.wait()
    first.cancel()
    await asyncio.wait({first})
    issuer.answers.set()

    assert (await second).user == "alice"
    assert first.cancelled()
    assert issuer.fetches == 1


async def test_a_new_key_is_found_as_soon_as_a_token_names_it(
    gate: JwtVerifier, issuer: Issuer, clock: FakeClock
):
    await gate.verify(signed("one"))
    issuer.text = key_set(jwk(rsa_key("one"), "RS256", kid="one"), jwk(rsa_key("two"), "RS256", kid="two"))
    clock.advance(30)

    assert (await gate.verify(signed("two"))).user == "alice"
    assert (await gate.verify(signed("one"))).user == "alice"
    assert issuer.fetches == 2


async def test_invented_key_ids_ask_the_issuer_at_most_every_30_seconds(
    gate: JwtVerifier, issuer: Issuer, clock: FakeClock
):
    await gate.prepare()

    for number in range(100):
        assert await refusal(gate, signed("one", f"invented-{number}")) == "token_signature_invalid"
    clock.advance(29)
    assert await refusal(gate, signed("one", "invented")) == "token_signature_invalid"
    assert issuer.fetches == 1

    clock.advance(1)
    assert await refusal(gate, signed("one", "invented")) == "token_signature_invalid"
    assert issuer.fetches == 2


async def test_before_the_first_good_set_nobody_knows(gate: JwtVerifier, issuer: Issuer, clock: FakeClock):
    issuer.status = 500

    with pytest.raises(KeysUnavailable) as unavailable:
        await gate.verify(signed("one"))
    assert unavailable.value.temporary
    with pytest.raises(KeysUnavailable):
        await gate.prepare()
    assert issuer.fetches == 1

    issuer.status = 200
    clock.advance(1)
    assert (await gate.verify(signed("one"))).user == "alice"


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"keys":[]}', '{"keys":{}}', "<html>", "[" * 100_000, "x" * 300_000]
)
async def test_the_last_good_set_is_kept(gate: JwtVerifier, issuer: Issuer, clock: FakeClock, text: str):
    await gate.prepare()
    issuer.text = text
    clock.advance(600)

    # The issuer does not say whether there is such a key now: that is no reason to call the token forged.
    with pytest.raises(KeysUnavailable):
        await gate.verify(signed("two"))
    assert (await gate.verify(signed("one"))).user == "alice"
    assert issuer.fetches == 2


async def test_a_withdrawn_key_is_refused_after_ten_minutes_and_renewing_keeps_nobody_waiting(
    gate: JwtVerifier, issuer: Issuer, clock: FakeClock
):
    await gate.prepare()
    issuer.text = key_set(jwk(rsa_key("two"), "RS256", kid="two"))
    issuer.asked.clear()
    issuer.answers.clear()
    clock.advance(600)

    assert (await gate.verify(signed("one"))).user == "alice"
    await issuer.asked.wait()
    issuer.answers.set()
    assert (await gate.verify(signed("two"))).user == "alice"
    assert await refusal(gate, signed("one")) == "token_signature_invalid"


async def test_a_fetch_that_never_ends_is_ended_with_the_gateway(gate: JwtVerifier, issuer: Issuer):
    issuer.answers.clear()
    waiting = asyncio.create_task(gate.verify(signed("one")))
    await issuer.asked.wait()

    await gate.close()

    with pytest.raises(KeysUnavailable):
        await waiting


async def test_a_token_without_key_id_may_be_of_any_key(gate: JwtVerifier, issuer: Issuer):
    issuer.text = key_set(jwk(rsa_key("one"), "RS256", kid="one"), jwk(rsa_key("two"), "RS256"))

    assert (await gate.verify(signed("two", None))).user == "alice"
    assert (await gate.verify(signed("one", None))).user == "alice"
    assert await refusal(gate, signed("three", None)) == "token_signature_invalid"


async def test_another_key_under_a_known_id_is_a_forgery(gate: JwtVerifier):
    assert await refusal(gate, signed("three", "one")) == "token_signature_invalid"


async def test_a_secret_serves_beside_a_key_set_that_cannot_be_had(issuer: Issuer):
    async def fail(url: str) -> str:
        raise OSError(f"{url} is away")

    gate = verifier(secret=SECRET, jwks_url="x", fetch=fail, algorithms=("HS256", "RS256"))

    assert gate.ready
    assert (await gate.verify(token())).user == "alice"
    with pytest.raises(KeysUnavailable):
        await gate.verify(signed("one"))


def test_each_kind_of_public_key_is_read():
    text = key_set(jwk(rsa_key(), "RS256"), jwk(ec_key(), "ES256"), jwk(ed_key(), "EdDSA"))

    assert [key.algorithms for key in read_key_set(text, ALGORITHMS)] == [{"RS256"}, {"ES256"}, {"EdDSA"}]


def test_a_key_serves_the_algorithm_that_it_declares():
    text = key_set(jwk(rsa_key(), "RS256", alg="PS256", kid="p"), jwk(rsa_key(), "RS256", kid="any"))

    keys = read_key_set(text, ("RS256", "PS256"))

    assert [key.kid for key in find_matching(keys, "PS256", None)] == ["p", "any"]
    assert [key.kid for key in find_matching(keys, "RS256", None)] == ["any"]
    assert find_matching(keys, "RS256", "p") == ()


@pytest.mark.parametrize(
    "member",
    [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ", "alg": "HS256"},
        jwk(rsa_key(), "RS256", use="enc"),
        jwk(rsa_key(), "RS256", use=5),
        jwk(rsa_key(), "RS256", key_ops=["encrypt"]),
        jwk(rsa_key(), "RS256", key_ops="verify"),
        jwk(rsa_key(), "RS256", alg="HS256"),
        jwk(rsa_key(), "RS256", alg="RSA-OAEP"),
        jwk(rsa_key(), "RS256", alg="ES256"),
        jwk(rsa_key(), "RS256", alg={}),
        jwk(rsa_key(), "RS256", n=None),
        jwk(rsa_key(), "RS256", n=5),
        jwk(rsa_key(), "RS256", n="!!!"),
        jwk(rsa_key(), "RS256", kty=["RSA"]),
        jwk(rsa_key("short"), "RS256"),
        jwk(ec_key(ec.SECP384R1), "ES384"),
        jwk(ec_key(), "ES256", crv="P-384"),
        jwk(ec_key(), "ES256", x="AAAA"),
        jwk(ed_key(), "EdDSA", x="AAAA"),
        jwk(ed_key(), "EdDSA", crv="X25519"),
        json.loads(get_default_algorithms()["RS256"].to_jwk(rsa_key())),
        *({}, None, 5, "key", []),
    ],
    ids=lambda _: "member",  # keys are new in each run; all workers of a run need the same names
)
def test_what_is_no_public_key_for_signatures_is_left_out(member: Any):
    good = jwk(rsa_key("two"), "RS256", kid="good")

    assert [key.kid for key in read_key_set(key_set(member, good), ALGORITHMS)] == ["good"]
    with pytest.raises(ValueError, match="no key for the allowed algorithms"):
        read_key_set(key_set(member), ALGORITHMS)


async def test_a_secret_in_a_key_set_is_no_key(gate: JwtVerifier, issuer: Issuer):
    published = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ", "kid": "s", "alg": "HS256"}
    issuer.text = key_set(published, jwk(rsa_key("one"), "RS256", kid="one"))
    forged = token(key="secret-secret-secret-secret-1234", headers={"kid": "s"})

    assert await refusal(gate, forged) == "token_algorithm_refused"
