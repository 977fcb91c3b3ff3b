"""One effect, however often it is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.domain.ingest_keys import IngestKey
from tests.unit.ingest_api.harness import PATIENCE, SHOP, Door, running

EVENT = {"event": "e", "data": 1}


async def test_a_repeat_gets_the_first_answer_and_has_no_effect(door: Door) -> None:
    await door.connect("42", "a")
    first = await door.post("/emit/user/42", EVENT, idempotency_key="one")
    await door.connect("42", "b")

    second = await door.post("/emit/user/42", EVENT, idempotency_key="one")

    assert (second.status, second.json) == (200, first.json)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert len(door.taken) == 1


async def test_a_repeat_spends_its_own_nonce(door: Door) -> None:
    await door.post("/emit/user/42", EVENT, idempotency_key="one")
    again = {"idempotency_key": "one", "nonce": "the-second"}

    assert (await door.post("/emit/user/42", EVENT, **again)).status == 200
    assert (await door.post("/emit/user/42", EVENT, **again)).refusal == (401, "replayed_request")


async def test_another_body_under_the_same_key_is_a_conflict(door: Door) -> None:
    await door.post("/emit/user/42", EVENT, idempotency_key="one")

    reply = await door.post("/emit/user/42", EVENT | {"data": 2}, idempotency_key="one")

    assert reply.refusal == (409, "idempotency_conflict")
    assert "retry-after" not in reply.headers
    assert len(door.taken) == 1


async def test_an_idempotency_key_belongs_to_key_and_path() -> None:
    other = IngestKey("other", ("another secret, long enough as well, but another",))
    async with running(keys=(SHOP, other)) as door:
        for target in ("/emit/user/42", "/emit/user/43", "/broadcast"):
            for key in (SHOP, other):
                reply = await door.post(target, EVENT, key=key, idempotency_key="one")
                assert (reply.status, reply.headers.get("idempotency-replayed")) == (200, None)

        assert len(door.taken) == 6


async def test_a_disconnect_may_be_repeated_too(door: Door) -> None:
    await door.connect("42", "a")
    for replayed in (None, "true"):
        reply = await door.post("/disconnect/user/42", b"", idempotency_key="one", media_type=None)
        assert reply.json == {"disconnected": 1}
        assert reply.headers.get("idempotency-replayed") == replayed


async def test_an_idempotency_key_changes_nothing_about_presence(door: Door) -> None:
    await door.call("GET", "/presence/42", idempotency_key="one")
    await door.connect("42", "a")

    reply = await door.call("GET", "/presence/42", idempotency_key="one")

    assert (reply.json["online"], reply.headers.get("idempotency-replayed")) == (True, None)


async def test_a_failed_request_leaves_the_key_free(door: Door) -> None:
    assert (await door.post("/broadcast", {"event": ""}, idempotency_key="one")).status == 422

    assert (await door.post("/broadcast", EVENT, idempotency_key="one")).status == 200


class Gate:
    """Around a publisher: holds every request up until a test lets it go."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def publish(self, *arguments: Any) -> Any:
        self.entered.set()
        await self.open.wait()
        return await self._publisher.publish(*arguments)


async def test_a_concurrent_request_with_the_same_key_is_told_to_come_back() -> None:
    gates: list[Gate] = []

    def wrap(publisher: Any) -> Gate:
        gates.append(Gate(publisher))
        return gates[0]

    async with running(wrap=wrap) as door, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(door.post("/broadcast", EVENT, idempotency_key="one"), name="first")
        async with asyncio.timeout(PATIENCE):
            await gates[0].entered.wait()

        meanwhile = await door.post("/broadcast", EVENT, idempotency_key="one", nonce="not-spent")
        assert meanwhile.refusal == (409, "idempotency_conflict")
        assert meanwhile.headers["retry-after"] == "1"

        other = tasks.create_task(door.post("/broadcast", EVENT, idempotency_key="two"), name="other")
        gates[0].open.set()
        assert (await first).status == (await other).status == 200
        after = await door.post("/broadcast", EVENT, idempotency_key="one", nonce="not-spent")
        assert (after.json, after.headers["idempotency-replayed"]) == ((await first).json, "true")
