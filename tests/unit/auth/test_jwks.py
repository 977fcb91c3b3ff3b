"""The key set of an issuer that changes it, is slow or is unavailable: a real HTTP server and client."""

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

from gateway.auth import JwtVerifier, jwks
from gateway.auth.jwk import find_matching, read_key_set
from gateway.domain.errors import KeysStale, KeysUnavailable, TokenRejected
from gateway.domain.identity import Identity
from tests.support.clock import FakeClock, FakeSchedule
from tests.support.waiter import await_until
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
    """Publishes a key set over HTTP. It counts the fetches, and fails or blocks if a test sets it."""

    def __init__(self) -> None:
        self.text = key_set(jwk(rsa_key("one"), "RS256", kid="one"))
        self.status = 200
        self.fetches = 0
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.requested = asyncio.Event()

    async def publish(self, request: web.Request) -> web.Response:
        self.fetches += 1
        self.requested.set()
        await self.unblocked.wait()
        return web.Response(text=self.text, status=self.status, content_type="application/json")


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def schedule(clock: FakeClock) -> FakeSchedule:
    return FakeSchedule(clock)


@pytest.fixture
async def jwt_verifier(issuer: Issuer, schedule: FakeSchedule) -> AsyncIterator[JwtVerifier]:
    app = web.Application()
    app.router.add_get("/keys", issuer.publish)
    server = TestServer(app)
    await server.start_server()
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def fetch(url: str) -> str:
            async with session.get(url) as response:
                return await response.text()

        jwt_verifier = verifier(
            jwks_url=str(server.make_url("/keys")), fetch=fetch, algorithms=ALGORITHMS, schedule=schedule
        )
        yield jwt_verifier
        await jwt_verifier.close()
    issuer.unblocked.set()
    await server.close()


def signed(name: str, kid: str | None = "same", **changes: object) -> str:
    """Return a token signed by the RSA key ``name``, with a long lifetime because tests move the clock."""
    headers = {} if kid is None else {"kid": name if kid == "same" else kid}
    content = claims(exp=int(NOW) + 1_000_000, **changes)
    return token(content, key=rsa_key(name), algorithm="RS256", headers=headers)


async def rejection_code(jwt_verifier: JwtVerifier, text: str) -> str:
    with pytest.raises(TokenRejected) as rejection:
        await jwt_verifier.verify(text)
    return rejection.value.code


async def test_only_the_first_token_fetches_the_keys(jwt_verifier: JwtVerifier, issuer: Issuer):
    assert not jwt_verifier.is_ready

    for _ in range(3):
        assert (await jwt_verifier.verify(signed("one"))).user == "alice"

    assert jwt_verifier.is_ready
    assert issuer.fetches == 1


async def test_keys_can_be_fetched_before_the_first_token(jwt_verifier: JwtVerifier, issuer: Issuer):
    await jwt_verifier.prepare()
    await jwt_verifier.prepare()

    assert jwt_verifier.is_ready
    assert issuer.fetches == 1


async def test_prefetch_starts_one_fetch_without_waiting(jwt_verifier: JwtVerifier, issuer: Issuer):
    issuer.unblocked.clear()
    for _ in range(10):
        jwt_verifier.prefetch()
    await issuer.requested.wait()
    issuer.unblocked.set()
    await jwt_verifier.prepare()
    jwt_verifier.prefetch()

    assert jwt_verifier.is_ready
    assert issuer.fetches == 1


async def test_concurrent_tokens_share_one_fetch(jwt_verifier: JwtVerifier, issuer: Issuer):
    issuer.unblocked.clear()
    waiting = [asyncio.create_task(jwt_verifier.verify(signed("one"))) for _ in range(50)]
    await issuer.requested.wait()
    issuer.unblocked.set()

    identities = await asyncio.gather(*waiting)

    assert {identity.user for identity in identities} == {"alice"}
    assert issuer.fetches == 1


async def test_cancelled_caller_does_not_cancel_the_fetch_of_others(
    jwt_verifier: JwtVerifier, issuer: Issuer
):
    issuer.unblocked.clear()
    first, second = (asyncio.create_task(jwt_verifier.verify(signed("one"))) for _ in range(2))
    await issuer.requested.wait()
    first.cancel()
    await asyncio.wait({first})
    issuer.unblocked.set()

    assert (await second).user == "alice"
    assert first.cancelled()
    assert issuer.fetches == 1


async def test_new_key_is_fetched_when_a_token_names_it(
    jwt_verifier: JwtVerifier, issuer: Issuer, clock: FakeClock
):
    await jwt_verifier.verify(signed("one"))
    issuer.text = key_set(jwk(rsa_key("one"), "RS256", kid="one"), jwk(rsa_key("two"), "RS256", kid="two"))
    clock.advance(30)

    assert (await jwt_verifier.verify(signed("two"))).user == "alice"
    assert (await jwt_verifier.verify(signed("one"))).user == "alice"
    assert issuer.fetches == 2


async def held(jwt_verifier: JwtVerifier, schedule: FakeSchedule, text: str) -> asyncio.Task[Identity]:
    """Start to verify a token, and return when it waits for a fetch."""
    timers = len(schedule)
    verifying = asyncio.create_task(jwt_verifier.verify(text))
    await await_until(lambda: len(schedule) > timers or verifying.done(), "it waits", pause_seconds=0)
    return verifying


def rotate(issuer: Issuer, name: str) -> None:
    issuer.text = key_set(jwk(rsa_key(name), "RS256", kid=name))


async def test_new_key_is_fetched_at_once_after_the_fetch_at_start(
    jwt_verifier: JwtVerifier, issuer: Issuer, clock: FakeClock
):
    await jwt_verifier.prepare()
    clock.advance(2)
    rotate(issuer, "two")

    assert (await jwt_verifier.verify(signed("two"))).user == "alice"
    assert await rejection_code(jwt_verifier, signed("one", "made-up")) == "token_signature_invalid"
    assert issuer.fetches == 2


async def test_new_key_is_fetched_within_the_hold_of_its_token_although_made_up_key_ids_spent_the_fetch(
    jwt_verifier: JwtVerifier, issuer: Issuer, schedule: FakeSchedule
):
    await jwt_verifier.prepare()
    schedule.advance(100)
    assert await rejection_code(jwt_verifier, signed("one", "made-up")) == "token_signature_invalid"
    rotate(issuer, "two")
    schedule.advance(1)

    verifying = await held(jwt_verifier, schedule, signed("two"))
    assert issuer.fetches == 2
    schedule.advance(3)
    assert (await verifying).user == "alice"
    assert issuer.fetches == 3


async def test_key_id_that_was_not_found_starts_no_fetch_for_30_seconds_and_its_tokens_may_come_again(
    jwt_verifier: JwtVerifier, issuer: Issuer, schedule: FakeSchedule
):
    await jwt_verifier.prepare()
    schedule.advance(100)
    assert await rejection_code(jwt_verifier, signed("one", "two")) == "token_signature_invalid"
    rotate(issuer, "two")
    schedule.advance(10)

    verifying = await held(jwt_verifier, schedule, signed("two"))
    schedule.advance(5)
    with pytest.raises(KeysStale) as stale:
        await verifying
    assert stale.value.retry_after_seconds == 15
    assert issuer.fetches == 2

    schedule.advance(12)
    verifying = await held(jwt_verifier, schedule, signed("two"))
    schedule.advance(3)
    assert (await verifying).user == "alice"
    assert issuer.fetches == 3


async def test_tokens_over_the_limit_of_held_ones_come_again_at_once_and_start_the_fetch_all_the_same(
    jwt_verifier: JwtVerifier, issuer: Issuer, schedule: FakeSchedule, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jwks, "MAX_HELD_TOKENS", 2)
    await jwt_verifier.prepare()
    schedule.advance(100)
    await rejection_code(jwt_verifier, signed("one", "made-up"))
    schedule.advance(1)
    waiting = [await held(jwt_verifier, schedule, signed("one", f"made-up-{number}")) for number in range(2)]
    rotate(issuer, "two")

    with pytest.raises(KeysStale) as stale:
        await jwt_verifier.verify(signed("two"))
    assert stale.value.retry_after_seconds == 3
    schedule.advance(3)
    await asyncio.wait(waiting)
    assert (await jwt_verifier.verify(signed("two"))).user == "alice"
    assert issuer.fetches == 3


async def test_fetch_that_a_token_needs_starts_although_its_client_has_left(
    jwt_verifier: JwtVerifier, issuer: Issuer, schedule: FakeSchedule
):
    await jwt_verifier.prepare()
    schedule.advance(100)
    await rejection_code(jwt_verifier, signed("one", "made-up"))
    rotate(issuer, "two")
    schedule.advance(1)
    verifying = await held(jwt_verifier, schedule, signed("two"))
    verifying.cancel()
    await asyncio.wait({verifying})
    issuer.requested.clear()

    schedule.advance(29)

    await issuer.requested.wait()
    await await_until(lambda: len(schedule) == 0, "the fetch has ended")
    assert (await jwt_verifier.verify(signed("two"))).user == "alice"
    assert issuer.fetches == 3


async def test_token_of_no_key_is_rejected_once_a_fetch_that_started_later_has_no_key_for_it(
    jwt_verifier: JwtVerifier, issuer: Issuer, schedule: FakeSchedule
):
    await jwt_verifier.prepare()
    schedule.advance(100)
    await rejection_code(jwt_verifier, signed("one", "first"))
    schedule.advance(20)
    verifying = await held(jwt_verifier, schedule, signed("one", "first", n=2))
    schedule.advance(5)
    with pytest.raises(KeysStale):
        await verifying

    schedule.advance(5)
    await await_until(lambda: issuer.fetches == 3, "the set was fetched")
    await jwt_verifier.prepare()
    schedule.advance(1)

    # The token was first seen before that fetch, so it is not held again.
    assert await rejection_code(jwt_verifier, signed("one", "first", n=2)) == "token_signature_invalid"
    assert (await held(jwt_verifier, schedule, signed("one", "first", n=3))).done() is False
    assert issuer.fetches == 3


async def test_made_up_key_ids_fetch_at_most_every_4_seconds(
    jwt_verifier: JwtVerifier, issuer: Issuer, schedule: FakeSchedule
):
    await jwt_verifier.prepare()
    schedule.advance(100)
    for second in range(90):
        tasks = [
            asyncio.create_task(jwt_verifier.verify(signed("one", f"made-up-{second}-{number}")))
            for number in range(3)
        ]
        await await_until(lambda: len(schedule) > 0, "they wait", pause_seconds=0)
        schedule.advance(1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    assert 1 + 10 <= issuer.fetches <= 1 + 24


async def test_one_made_up_key_id_fetches_at_most_every_30_seconds(
    jwt_verifier: JwtVerifier, issuer: Issuer, schedule: FakeSchedule
):
    await jwt_verifier.prepare()
    schedule.advance(100)
    for second in range(90):
        verifying = await held(jwt_verifier, schedule, signed("one", "made-up", n=second))
        schedule.advance(1)
        verifying.cancel()
        await asyncio.wait([verifying])

    assert issuer.fetches <= 1 + 4


async def test_token_that_arrives_during_a_fetch_is_not_rejected_by_its_set(
    jwt_verifier: JwtVerifier, issuer: Issuer, schedule: FakeSchedule
):
    await jwt_verifier.prepare()
    schedule.advance(100)
    issuer.requested.clear()
    issuer.unblocked.clear()
    first = await held(jwt_verifier, schedule, signed("one", "made-up"))
    await issuer.requested.wait()
    schedule.advance(1)
    second = await held(jwt_verifier, schedule, signed("two"))
    issuer.unblocked.set()

    with pytest.raises(TokenRejected):
        await first
    await await_until(lambda: len(schedule) == 2, "the second waits for the next fetch")
    schedule.advance(5)
    with pytest.raises(KeysStale):
        await second


async def test_key_set_without_key_ids_serves_tokens_with_one_and_is_fetched_after_a_rotation(
    jwt_verifier: JwtVerifier, issuer: Issuer, clock: FakeClock
):
    issuer.text = key_set(jwk(rsa_key("one"), "RS256"))
    assert (await jwt_verifier.verify(signed("one", "any"))).user == "alice"
    assert (await jwt_verifier.verify(signed("one", None))).user == "alice"
    clock.advance(2)
    issuer.text = key_set(
        jwk(ec_key(), "ES256"), jwk(rsa_key("three"), "RS256"), jwk(rsa_key("two"), "RS256")
    )

    assert (await jwt_verifier.verify(signed("two", "any"))).user == "alice"
    assert (await jwt_verifier.verify(signed("three", None))).user == "alice"
    assert issuer.fetches == 2


def test_token_is_checked_with_the_key_of_its_id_else_with_keys_without_one():
    text = key_set(
        jwk(rsa_key("one"), "RS256", kid="one"), jwk(rsa_key("two"), "RS256"), jwk(ec_key(), "ES256")
    )
    keys = read_key_set(text, ALGORITHMS)

    assert [key.kid for key in find_matching(keys, "RS256", "one")] == ["one"]
    assert [key.kid for key in find_matching(keys, "RS256", "unknown")] == [None]
    assert [key.kid for key in find_matching(keys, "RS256", None)] == ["one", None]
    assert len(find_matching(keys * 50, "RS256", None)) == 32


async def test_keys_are_unavailable_before_the_first_valid_set(
    jwt_verifier: JwtVerifier, issuer: Issuer, clock: FakeClock
):
    issuer.status = 500

    with pytest.raises(KeysUnavailable) as unavailable:
        await jwt_verifier.verify(signed("one"))
    assert unavailable.value.temporary
    with pytest.raises(KeysUnavailable):
        await jwt_verifier.prepare()
    assert issuer.fetches == 1

    issuer.status = 200
    clock.advance(1)
    assert (await jwt_verifier.verify(signed("one"))).user == "alice"


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", '{"keys":[]}', '{"keys":{}}', "<html>", "[" * 100_000, "x" * 300_000),
        key_set(*[{}] * 256, jwk(ec_key(), "ES256")),
    ],
    ids=lambda text: text[:8],
)
async def test_last_valid_set_is_kept_after_an_invalid_one(
    jwt_verifier: JwtVerifier, issuer: Issuer, clock: FakeClock, text: str
):
    await jwt_verifier.prepare()
    issuer.text = text
    clock.advance(600)

    # It is unknown whether the issuer has this key now, so the signature is not called invalid.
    with pytest.raises(KeysUnavailable):
        await jwt_verifier.verify(signed("two"))
    assert (await jwt_verifier.verify(signed("one"))).user == "alice"
    assert issuer.fetches == 2


async def test_withdrawn_key_is_rejected_after_ten_minutes_and_the_refresh_blocks_no_token(
    jwt_verifier: JwtVerifier, issuer: Issuer, clock: FakeClock
):
    await jwt_verifier.prepare()
    issuer.text = key_set(jwk(rsa_key("two"), "RS256", kid="two"))
    issuer.requested.clear()
    issuer.unblocked.clear()
    clock.advance(600)

    assert (await jwt_verifier.verify(signed("one"))).user == "alice"
    await issuer.requested.wait()
    issuer.unblocked.set()
    assert (await jwt_verifier.verify(signed("two"))).user == "alice"
    assert await rejection_code(jwt_verifier, signed("one")) == "token_signature_invalid"


async def test_close_cancels_a_running_fetch(jwt_verifier: JwtVerifier, issuer: Issuer):
    issuer.unblocked.clear()
    waiting = asyncio.create_task(jwt_verifier.verify(signed("one")))
    await issuer.requested.wait()

    await jwt_verifier.close()

    with pytest.raises(KeysUnavailable):
        await waiting


async def test_token_without_kid_may_be_signed_by_any_key(jwt_verifier: JwtVerifier, issuer: Issuer):
    issuer.text = key_set(jwk(rsa_key("one"), "RS256", kid="one"), jwk(rsa_key("two"), "RS256"))

    assert (await jwt_verifier.verify(signed("two", None))).user == "alice"
    assert (await jwt_verifier.verify(signed("one", None))).user == "alice"
    assert await rejection_code(jwt_verifier, signed("three", None)) == "token_signature_invalid"


async def test_other_key_with_a_known_kid_is_rejected(jwt_verifier: JwtVerifier):
    assert await rejection_code(jwt_verifier, signed("three", "one")) == "token_signature_invalid"


async def test_secret_works_beside_an_unavailable_key_set(issuer: Issuer):
    async def fail(url: str) -> str:
        raise OSError(f"{url} is unavailable")

    jwt_verifier = verifier(secrets=(SECRET,), jwks_url="x", fetch=fail, algorithms=("HS256", "RS256"))

    assert jwt_verifier.is_ready
    assert (await jwt_verifier.verify(token())).user == "alice"
    with pytest.raises(KeysUnavailable):
        await jwt_verifier.verify(signed("one"))


def test_each_kind_of_public_key_is_read():
    text = key_set(jwk(rsa_key(), "RS256"), jwk(ec_key(), "ES256"), jwk(ed_key(), "EdDSA"))

    assert [key.algorithms for key in read_key_set(text, ALGORITHMS)] == [{"RS256"}, {"ES256"}, {"EdDSA"}]


def test_key_with_alg_checks_only_that_algorithm():
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
def test_entry_that_is_not_a_public_key_for_signatures_is_excluded(member: Any):
    valid = jwk(rsa_key("two"), "RS256", kid="valid")

    assert [key.kid for key in read_key_set(key_set(member, valid), ALGORITHMS)] == ["valid"]
    with pytest.raises(ValueError, match="no key for the allowed algorithms"):
        read_key_set(key_set(member), ALGORITHMS)


async def test_secret_in_a_key_set_is_ignored(jwt_verifier: JwtVerifier, issuer: Issuer):
    published = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ", "kid": "s", "alg": "HS256"}
    issuer.text = key_set(published, jwk(rsa_key("one"), "RS256", kid="one"))
    forged = token(key="secret-secret-secret-secret-1234", headers={"kid": "s"})

    assert await rejection_code(jwt_verifier, forged) == "token_algorithm_refused"
