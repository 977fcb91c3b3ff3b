"""Made-up key ids neither keep out the tokens of a new key nor flood the issuer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import aiohttp
import pytest

from tests.load.attacks import made_up_keys
from tests.load.attacks.measures import under_attack
from tests.support.gateway_process import GatewayProcess
from tests.support.issuer import Issuer
from tests.support.raw_clients import RawSocket, connect_packet, http_session
from tests.support.waiter import TIMEOUT_SECONDS, await_until
from tests.unit.auth.issuer import jwk, key_set, rsa_key
from tests.unit.auth.issuer import token as signed_token

ATTEMPTS = 3
"""Each is held for 5 seconds. Before, a good token needed up to six."""
FETCH_PAUSE_SECONDS = 4.0


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    server = Issuer()
    publish(server, "one")
    yield server
    server.stop()


@pytest.fixture
def gateway(issuer: Issuer) -> Iterator[GatewayProcess]:
    process = GatewayProcess(jwt_secret=None, jwt_algorithms="RS256", jwt_jwks_url=issuer.url)
    process.log.wait(lambda line: line.get("event") == "jwks.fetched")
    yield process
    process.kill()


def publish(issuer: Issuer, name: str) -> None:
    """Publish a key set that has this key alone."""
    issuer.key_set = key_set(jwk(rsa_key(name), "RS256", kid=name))


def token(name: str) -> str:
    """Return a token that this key signed."""
    now = int(time.time())
    claims = {"sub": "alice", "iat": now, "exp": now + 3600}
    return signed_token(claims, key=rsa_key(name), algorithm="RS256", headers={"kid": name})


async def attempts_until_accepted(http: aiohttp.ClientSession, gateway: GatewayProcess, text: str) -> int:
    """Connect again while the transport ends without an answer, as the stock client does; return how often."""
    for attempt in range(1, ATTEMPTS + 1):
        socket = await RawSocket.open(http, gateway.url)
        await socket.send(connect_packet(text))
        message = await socket.socket.receive(TIMEOUT_SECONDS)
        if message.type is aiohttp.WSMsgType.TEXT:
            socket.abort()
            assert message.data.startswith("40{"), "a good token is never rejected"
            return attempt
    raise AssertionError(f"a good token was not accepted in {ATTEMPTS} attempts")


async def fetched_again(issuer: Issuer) -> None:
    """Wait until a made-up token has started a fetch."""
    fetches = issuer.fetches
    await await_until(lambda: issuer.fetches > fetches, "the key set is fetched")


async def test_tokens_of_a_new_key_are_accepted_while_key_ids_are_made_up(
    gateway: GatewayProcess, issuer: Issuer
) -> None:
    async with http_session() as http, under_attack(made_up_keys.attack, gateway):
        await fetched_again(issuer)
        publish(issuer, "two")  # just after made-up tokens have spent a fetch
        began, fetches = time.monotonic(), issuer.fetches

        attempts = await asyncio.gather(
            *(attempts_until_accepted(http, gateway, token("two")) for _ in range(5))
        )

        passed = time.monotonic() - began
        assert max(attempts) <= ATTEMPTS
        assert issuer.fetches - fetches <= 1 + passed / FETCH_PAUSE_SECONDS
    assert gateway.failures() == []


def break_issuer(issuer: Issuer, fault: str) -> None:
    match fault:
        case "hangs":
            issuer.answers.clear()
        case "fails":
            issuer.key_set = None
        case "redirects":
            issuer.redirect = issuer.url
        case "is huge":
            issuer.key_set = " " * 50_000_000 + (issuer.key_set or "")
        case "has too many keys":
            issuer.key_set = key_set(*[jwk(rsa_key("one"), "RS256", kid="one")] * 500)


@pytest.mark.parametrize("fault", ["hangs", "fails", "redirects", "is huge", "has too many keys"])
async def test_tokens_of_known_keys_are_accepted_while_the_issuer_is_broken(
    gateway: GatewayProcess, issuer: Issuer, fault: str
) -> None:
    break_issuer(issuer, fault)
    async with http_session() as http, under_attack(made_up_keys.attack, gateway):
        await fetched_again(issuer)

        assert [await attempts_until_accepted(http, gateway, token("one")) for _ in range(5)] == [1] * 5
