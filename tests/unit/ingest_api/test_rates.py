"""Rate limits of ingest keys."""

from __future__ import annotations

from gateway.domain.ingest_keys import IngestKey
from gateway.domain.rate_limit import Rate
from tests.unit.ingest_api.harness import SECRET, HttpResponse, RestApiServer, run_rest_api

SLOW = IngestKey("slow", (SECRET,), rate=Rate(per_second=0.5, burst=2))
EVENT = {"event": "e"}


def ratelimit_headers(response: HttpResponse) -> tuple[str, str, str]:
    return tuple(response.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset"))  # type: ignore[return-value]


async def test_responses_have_ratelimit_headers_and_retry_after() -> None:
    async with run_rest_api(keys=(SLOW,)) as server:
        first = await server.post("/broadcast", EVENT, key=SLOW)
        second = await server.send_signed("GET", "/presence/42", key=SLOW)
        third = await server.post("/broadcast", EVENT, key=SLOW)

        assert (first.status, ratelimit_headers(first)) == (200, ("2", "1", "2"))
        assert (second.status, ratelimit_headers(second)) == (200, ("2", "0", "4"))
        assert (third.problem, ratelimit_headers(third)) == ((429, "rate_limited"), ("2", "0", "4"))
        assert third.headers["retry-after"] == "2"

        server.clock.advance(2)
        assert (await server.post("/broadcast", EVENT, key=SLOW)).status == 200


async def test_rate_limited_request_consumes_neither_nonce_nor_idempotency_key() -> None:
    async with run_rest_api(keys=(SLOW,)) as server:
        for _ in range(2):
            await server.post("/broadcast", EVENT, key=SLOW)
        repeat = {"key": SLOW, "nonce": "not-consumed", "idempotency_key": "one"}
        assert (await server.post("/broadcast", EVENT, **repeat)).status == 429

        server.clock.advance(2)
        response = await server.post("/broadcast", EVENT, **repeat)

        assert (response.status, response.headers.get("idempotency-replayed")) == (200, None)


async def test_request_with_a_bad_signature_does_not_count_against_the_rate() -> None:
    async with run_rest_api(keys=(SLOW,)) as server:
        for _ in range(5):
            secret = "another secret, long enough as well, but another"
            assert (await server.post("/broadcast", EVENT, key=SLOW, secret=secret)).status == 401

        assert (await server.post("/broadcast", EVENT, key=SLOW)).status == 200


async def test_key_without_a_rate_gets_no_ratelimit_headers(server: RestApiServer) -> None:
    response = await server.post("/broadcast", EVENT)

    assert [name for name in response.headers if name.startswith("ratelimit")] == []
