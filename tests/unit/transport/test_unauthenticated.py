"""What a client may send before it has joined a namespace, its address, and 100 Continue."""

from __future__ import annotations

import json

import pytest

from tests.support.metrics import counted
from tests.support.raw_clients import raw_connection
from tests.support.waiter import await_until
from tests.unit.transport.harness import MAX_PAYLOAD_BYTES, PATH, EngineHarness, running_engine

UNAUTHENTICATED_BYTES = 1000


async def received(server: EngineHarness, count: int) -> list[str | bytes]:
    await await_until(lambda: len(server.observer.received) >= count, f"{count} packets", pause_seconds=0)
    return server.observer.received


async def test_unauthenticated_client_may_send_only_small_messages_on_a_websocket() -> None:
    async with running_engine(unauthenticated_payload_bytes=UNAUTHENTICATED_BYTES) as (server, client):
        socket, _ = await client.open_websocket()
        await socket.send("4" + "x" * (UNAUTHENTICATED_BYTES - 1))
        await received(server, 1)
        await socket.send("4" + "x" * UNAUTHENTICATED_BYTES)

        assert await socket.wait_closed() == 1009
        await server.wait_empty()
        assert (len(server.observer.received), server.observer.closed) == (1, ["message_too_large"])


async def test_unauthenticated_client_may_post_only_small_payloads() -> None:
    async with running_engine(unauthenticated_payload_bytes=UNAUTHENTICATED_BYTES) as (server, client):
        sid = await client.open_polling()

        assert await client.post(sid, "4" + "x" * (UNAUTHENTICATED_BYTES - 1)) == (200, "ok")
        status, body = await client.post(sid, "4" + "x" * UNAUTHENTICATED_BYTES)

        assert (status, json.loads(body)) == (413, {"code": 3, "message": "Payload too large"})
        assert (len(server.observer.received), server.observer.closed) == (1, ["message_too_large"])
        assert counted(server.metrics, "engineio_requests_rejected_total") == {"payload_too_large": 1}


async def test_client_that_joined_may_send_large_messages_on_both_transports() -> None:
    async with running_engine(unauthenticated_payload_bytes=UNAUTHENTICATED_BYTES) as (server, client):
        socket, _ = await client.open_websocket()
        sid = await client.open_polling()
        await socket.send("4small")
        await received(server, 1)
        server.join()

        await socket.send("4" + "x" * (MAX_PAYLOAD_BYTES - 1))
        assert await client.post(sid, "4" + "x" * (MAX_PAYLOAD_BYTES - 1)) == (200, "ok")

        assert [len(message) for message in await received(server, 3)] == [5, *[MAX_PAYLOAD_BYTES - 1] * 2]


@pytest.mark.parametrize("joins", ["before the probe", "during the upgrade", "never"])
async def test_upgraded_session_accepts_large_messages_once_it_joined(joins: str) -> None:
    async with running_engine(unauthenticated_payload_bytes=UNAUTHENTICATED_BYTES) as (server, client):
        sid = await client.open_polling()
        if joins == "before the probe":
            server.join()
        socket = await client.probe(sid)
        if joins == "during the upgrade":
            server.join()
        await socket.send("5")
        await socket.send("4" + "x" * UNAUTHENTICATED_BYTES)

        if joins == "never":
            assert await socket.wait_closed() == 1009
        else:
            assert [len(message) for message in await received(server, 1)] == [UNAUTHENTICATED_BYTES]


async def test_large_message_instead_of_a_probe_leaves_the_session_on_polling() -> None:
    async with running_engine(unauthenticated_payload_bytes=UNAUTHENTICATED_BYTES) as (_, client):
        sid = await client.open_polling()
        socket = await client.websocket(EIO="4", sid=sid)
        await socket.send("2" + "x" * UNAUTHENTICATED_BYTES)

        assert await socket.wait_closed() == 1009
        assert await client.post(sid, "4still here") == (200, "ok")


async def test_admission_is_checked_with_the_address_of_the_client() -> None:
    async with running_engine(trusted_proxies=["127.0.0.0/8"]) as (server, _):
        for forwarded in ([], ["198.51.100.1, 203.0.113.9"], ["203.0.113.9", "2001:db8::9"]):
            async with raw_connection(server.port) as connection:
                lines = "".join(f"X-Forwarded-For: {line}\r\n" for line in forwarded)
                connection.send(
                    f"GET {PATH}?EIO=4&transport=polling HTTP/1.1\r\nHost: gateway\r\n{lines}\r\n".encode()
                )
                assert (await connection.read_response()).status == 200

        assert server.handshake_addresses == ["127.0.0.1", "203.0.113.9", "2001:db8::9"]
        assert [session.handshake.address for session in server.observer.opened] == server.handshake_addresses


async def test_forwarded_address_from_an_untrusted_peer_is_ignored() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        connection.send(
            f"GET {PATH}?EIO=4&transport=polling HTTP/1.1\r\nHost: gateway\r\n"
            "X-Forwarded-For: 203.0.113.9\r\n\r\n".encode()
        )
        assert (await connection.read_response()).status == 200

        assert server.handshake_addresses == ["127.0.0.1"]


# Expect (RFC 9110 §10.1.1)


def head(sid: str, length: int, *, expect: str = "100-continue", version: str = "1.1") -> bytes:
    return (
        f"POST {PATH}?EIO=4&transport=polling&sid={sid} HTTP/{version}\r\nHost: gateway\r\n"
        f"Content-Length: {length}\r\nExpect: {expect}\r\n\r\n".encode()
    )


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue"])
async def test_client_that_expects_100_continue_gets_it(expect: str) -> None:
    async with running_engine() as (server, client), raw_connection(server.port) as connection:
        sid = await client.open_polling()
        for _ in range(2):
            connection.send(head(sid, 6, expect=expect))
            assert (await connection.read_response()).status == 100
            connection.send(b"4hello")

            answer = await connection.read_response()
            assert (answer.status, answer.body) == (200, b"ok")

        assert server.observer.received == ["hello", "hello"]


async def test_client_that_does_not_wait_for_100_continue_is_answered_too() -> None:
    async with running_engine() as (server, client), raw_connection(server.port) as connection:
        sid = await client.open_polling()
        connection.send(head(sid, 6) + b"4hello")

        assert [(await connection.read_response()).status for _ in range(2)] == [100, 200]
        assert server.observer.received == ["hello"]


async def test_rejected_request_gets_no_100_continue() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        for request, status in ((head("unknown", 6), 400), (head(sid, MAX_PAYLOAD_BYTES + 1), 413)):
            async with raw_connection(server.port) as connection:
                connection.send(request)
                assert (await connection.read_response()).status == status


@pytest.mark.parametrize(("expect", "version"), [("something else", "1.1"), ("100-continue", "1.0")])
async def test_other_expectations_and_older_clients_get_no_100_continue(expect: str, version: str) -> None:
    async with running_engine() as (server, client), raw_connection(server.port) as connection:
        sid = await client.open_polling()
        connection.send(head(sid, 6, expect=expect, version=version) + b"4hello")

        assert (await connection.read_response()).status == 200
