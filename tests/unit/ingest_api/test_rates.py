"""How often a key may call."""

from __future__ import annotations

from gateway.domain.ingest_keys import IngestKey
from gateway.domain.rate_limit import Rate
from tests.unit.ingest_api.harness import SECRET, Door, Reply, running

SLOW = IngestKey("slow", (SECRET,), rate=Rate(per_second=0.5, burst=2))
EVENT = {"event": "e"}


def left(reply: Reply) -> tuple[str, str, str]:
    return tuple(reply.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset"))  # type: ignore[return-value]


async def test_a_key_is_told_what_is_left_of_its_rate_and_when_to_come_back() -> None:
    async with running(keys=(SLOW,)) as door:
        first = await door.post("/broadcast", EVENT, key=SLOW)
        second = await door.call("GET", "/presence/42", key=SLOW)
        third = await door.post("/broadcast", EVENT, key=SLOW)

        assert (first.status, left(first)) == (200, ("2", "1", "2"))
        assert (second.status, left(second)) == (200, ("2", "0", "4"))
        assert (third.refusal, left(third)) == ((429, "rate_limited"), ("2", "0", "4"))
        assert third.headers["retry-after"] == "2"

        door.clock.seconds += 2
        assert (await door.post("/broadcast", EVENT, key=SLOW)).status == 200


async def test_what_was_limited_spends_neither_nonce_nor_idempotency_key() -> None:
    async with running(keys=(SLOW,)) as door:
        for _ in range(2):
            await door.post("/broadcast", EVENT, key=SLOW)
        again = {"key": SLOW, "nonce": "not-spent-yet", "idempotency_key": "one"}
        assert (await door.post("/broadcast", EVENT, **again)).status == 429

        door.clock.seconds += 2
        reply = await door.post("/broadcast", EVENT, **again)

        assert (reply.status, reply.headers.get("idempotency-replayed")) == (200, None)


async def test_an_unsigned_request_takes_nothing_from_the_rate() -> None:
    async with running(keys=(SLOW,)) as door:
        for _ in range(5):
            secret = "another secret, long enough as well, but another"
            assert (await door.post("/broadcast", EVENT, key=SLOW, secret=secret)).status == 401

        assert (await door.post("/broadcast", EVENT, key=SLOW)).status == 200


async def test_a_key_without_a_rate_hears_nothing_of_rates(door: Door) -> None:
    reply = await door.post("/broadcast", EVENT)

    assert [name for name in reply.headers if name.startswith("ratelimit")] == []
