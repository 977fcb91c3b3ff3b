"""Idempotency keys: a repeated request has one effect."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.domain.ingest_keys import IngestKey
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.ingest_api.harness import SHOP, HttpResponse, RestApiServer, request_head, run_rest_api

EVENT = {"event": "e", "data": 1}


async def test_repeat_gets_the_first_response_and_has_no_effect(server: RestApiServer) -> None:
    await server.register_connection("42", "a")
    first = await server.post("/emit/user/42", EVENT, idempotency_key="one")
    await server.register_connection("42", "b")

    second = await server.post("/emit/user/42", EVENT, idempotency_key="one")

    assert (second.status, second.json) == (200, first.json)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert len(server.published) == 1


async def test_repeat_consumes_its_own_nonce(server: RestApiServer) -> None:
    await server.post("/emit/user/42", EVENT, idempotency_key="one")
    repeat = {"idempotency_key": "one", "nonce": "the-second"}

    assert (await server.post("/emit/user/42", EVENT, **repeat)).status == 200
    server.clock.advance(1)  # with another timestamp the signature is another one, too
    assert (await server.post("/emit/user/42", EVENT, **repeat)).problem == (401, "replayed_request")


def signed_bytes(server: RestApiServer, method: str, target: str, body: bytes, **options: Any) -> bytes:
    """Return a whole signed request as it is sent."""
    headers = server.sign(method, target, body, **options)
    headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return request_head(method, target, headers) + body


async def send_bytes(server: RestApiServer, request: bytes, *, times: int = 2) -> list[HttpResponse]:
    """Send the same bytes again and again, on one connection and then on a new one."""
    async with server.open_connection() as connection, server.open_connection() as another:
        responses = []
        for number in range(times):
            used = connection if number < times - 1 else another
            await used.send(request)
            responses.append(await used.read_response())
        return responses


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/emit/user/42", EVENT),
        ("/emit/room", EVENT | {"room": "org:7"}),
        ("/emit/room", EVENT | {"rooms": ["org:7", "org:8"]}),
        ("/broadcast", EVENT),
        ("/disconnect/user/42", {}),
    ],
)
async def test_retransmission_gets_the_first_response_and_has_no_effect(
    server: RestApiServer, target: str, body: dict[str, Any]
) -> None:
    await server.register_connection("42", "a")
    request = signed_bytes(server, "POST", target, json.dumps(body).encode(), idempotency_key="one")

    first, *others = await send_bytes(server, request, times=4)

    assert (first.status, first.headers.get("idempotency-replayed")) == (200, None)
    assert [(other.status, other.json) for other in others] == [(200, first.json)] * 3
    assert {other.headers["idempotency-replayed"] for other in others} == {"true"}
    assert len(server.published) == 1


async def test_retransmission_of_presence_is_answered_anew(server: RestApiServer) -> None:
    request = signed_bytes(server, "GET", "/presence/42", b"", idempotency_key="one")
    (first, _) = await send_bytes(server, request)
    await server.register_connection("42", "a")

    (again, _) = await send_bytes(server, request)

    assert (first.json["online"], again.json["online"]) == (False, True)


@pytest.mark.parametrize(("method", "target"), [("POST", "/broadcast"), ("GET", "/presence/42")])
async def test_retransmission_without_an_idempotency_key_is_a_replay(
    server: RestApiServer, method: str, target: str
) -> None:
    body = json.dumps(EVENT).encode() if method == "POST" else b""

    first, second = await send_bytes(server, signed_bytes(server, method, target, body))

    assert first.status == 200
    assert second.problem == (401, "replayed_request")


async def test_used_nonce_with_another_body_path_or_idempotency_key_is_a_replay(
    server: RestApiServer,
) -> None:
    used: dict[str, Any] = {"nonce": "used-once", "idempotency_key": "one"}
    await server.post("/emit/user/42", EVENT, **used)

    for target, body, options in (
        ("/emit/user/42", EVENT | {"data": 2}, used),
        ("/emit/user/43", EVENT, used),
        ("/emit/user/42?", EVENT, used),
        ("/emit/user/42", EVENT, used | {"idempotency_key": "two"}),
        ("/emit/user/42", EVENT, {"nonce": "used-once"}),
    ):
        response = await server.post(target, body, **options)
        assert response.problem == (401, "replayed_request")
    assert len(server.published) == 1


async def test_other_body_with_the_same_idempotency_key_is_a_conflict(server: RestApiServer) -> None:
    await server.post("/emit/user/42", EVENT, idempotency_key="one")

    response = await server.post("/emit/user/42", EVENT | {"data": 2}, idempotency_key="one")

    assert response.problem == (409, "idempotency_conflict")
    assert "retry-after" not in response.headers
    assert len(server.published) == 1


async def test_idempotency_key_belongs_to_ingest_key_and_path() -> None:
    other = IngestKey("other", ("another secret, long enough as well, but another",))
    async with run_rest_api(keys=(SHOP, other)) as server:
        for target in ("/emit/user/42", "/emit/user/43", "/broadcast"):
            for key in (SHOP, other):
                response = await server.post(target, EVENT, key=key, idempotency_key="one")
                assert (response.status, response.headers.get("idempotency-replayed")) == (200, None)

        assert len(server.published) == 6


async def test_disconnect_may_be_repeated(server: RestApiServer) -> None:
    await server.register_connection("42", "a")
    for replayed in (None, "true"):
        response = await server.post("/disconnect/user/42", b"", idempotency_key="one", media_type=None)
        assert response.json == {"disconnected": 1}
        assert response.headers.get("idempotency-replayed") == replayed


async def test_idempotency_key_is_ignored_for_presence(server: RestApiServer) -> None:
    await server.send_signed("GET", "/presence/42", idempotency_key="one")
    await server.register_connection("42", "a")

    response = await server.send_signed("GET", "/presence/42", idempotency_key="one")

    assert (response.json["online"], response.headers.get("idempotency-replayed")) == (True, None)


async def test_rejected_request_does_not_consume_the_idempotency_key(server: RestApiServer) -> None:
    assert (await server.post("/broadcast", {"event": ""}, idempotency_key="one")).status == 422

    assert (await server.post("/broadcast", EVENT, idempotency_key="one")).status == 200


class BlockingPublisher:
    """A wrapper of the publisher. It blocks every push until the test sets ``release``."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher
        self.entered = asyncio.Event()
        self.release = asyncio.Event()

    async def publish(self, *arguments: Any, **options: Any) -> Any:
        self.entered.set()
        await self.release.wait()
        return await self._publisher.publish(*arguments, **options)


async def test_concurrent_request_with_the_same_idempotency_key_is_a_conflict_with_retry_after() -> None:
    publishers: list[BlockingPublisher] = []

    def wrap(publisher: Any) -> BlockingPublisher:
        publishers.append(BlockingPublisher(publisher))
        return publishers[0]

    async with run_rest_api(wrap_publisher=wrap) as server, asyncio.TaskGroup() as tasks:
        sent = {"idempotency_key": "one", "nonce": "the-first"}
        first = tasks.create_task(server.post("/broadcast", EVENT, **sent), name="first")
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await publishers[0].entered.wait()

        meanwhile = await server.post("/broadcast", EVENT, idempotency_key="one", nonce="not-consumed")
        assert meanwhile.problem == (409, "idempotency_conflict")
        assert meanwhile.headers["retry-after"] == "1"

        identical = await server.post("/broadcast", EVENT, idempotency_key="one", nonce="the-first")
        assert identical.problem == (409, "idempotency_conflict")
        assert identical.headers["retry-after"] == "1"

        other = tasks.create_task(server.post("/broadcast", EVENT, idempotency_key="two"), name="other")
        publishers[0].release.set()
        assert (await first).status == (await other).status == 200
        after = await server.post("/broadcast", EVENT, idempotency_key="one", nonce="not-consumed")
        assert (after.json, after.headers["idempotency-replayed"]) == ((await first).json, "true")
