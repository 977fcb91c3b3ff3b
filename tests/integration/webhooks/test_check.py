"""The check names what is wrong with a webhook."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.webhooks import WebhookTls
from gateway.timers import SystemClock
from gateway.webhooks.check import CheckResult, check_webhook
from tests.integration.webhooks.conftest import webhook
from tests.support.certificate import make_certificate, server_context
from tests.support.ports import free_port
from tests.support.raw_webhook_server import Request, answer, response, serving


async def check(port: int, *, own_ports: tuple[int, ...] = (), **fields: Any) -> CheckResult:
    return await check_webhook(
        webhook(port, **fields), clock=SystemClock(), user_agent="sio-gateway/test", own_ports=own_ports
    )


async def test_webhook_that_works_gets_one_test_event() -> None:
    async with serving(answer(204)) as server:
        result = await check(server.port)

    assert (result.level, result.remedy) == ("ok", "")
    assert result.sentence.startswith("It answered with status 204 after ")
    (request,) = server.requests
    body = json.loads(request.body)
    assert (body["type"], body["data"]) == ("webhook.test", {"webhook": "app"})


@pytest.mark.parametrize(
    ("status", "body", "headers", "sentence", "remedy"),
    [
        (401, b"", (), "status 401", "signature"),
        (403, b"", (), "status 403", "signature"),
        (404, b"", (), "status 404", "path"),
        (302, b"", ("location: /a",), "status 302", "Redirects"),
        (500, b"", (), "status 500", "log"),
        (503, b"", (), "status 503", "overloaded"),
        (422, b"", (), "status 422", "204"),
        (200, b"<html>", (), "it is not JSON: line 1, column 1", "JSON object"),
        (200, b'{"a":1}', (), "it has a member other than ack", "JSON object"),
        (200, b"a" * 70_000, (), "more than 65536 bytes", "needs"),
        (200, b"a", ("content-encoding: br",), "Content-Encoding", "identity"),
    ],
)
async def test_wrong_answer_is_a_problem_with_its_remedy(
    status: int, body: bytes, headers: tuple[str, ...], sentence: str, remedy: str
) -> None:
    async with serving(answer(status, body, *headers)) as server:
        result = await check(server.port)

    assert result.level == "problem"
    assert sentence in result.sentence
    assert remedy in result.remedy


async def test_answer_that_takes_most_of_the_time_is_a_warning() -> None:
    async def slow(_request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(6)  # the time that is reported
        writer.write(response(204))

    async with serving(slow) as server:
        result = await check(server.port, timeout_seconds=10.0)

    assert result.level == "warning"


async def test_backend_that_hangs_closes_or_is_away_is_a_problem() -> None:
    async def hang(_request: Request, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def end(_request: Request, _writer: asyncio.StreamWriter) -> None: ...

    async with serving(hang) as server:
        hanging = await check(server.port, timeout_seconds=0.2)
    async with serving(end) as server:
        closing = await check(server.port)
    away = await check(free_port())

    assert hanging.sentence == "It did not answer within 0.2 seconds."
    assert closing.sentence.startswith("The connection ended before its answer was complete")
    assert away.sentence.startswith("It cannot be reached: ")
    assert "Connect" in away.sentence


async def test_name_address_and_own_port_are_named() -> None:
    async with serving(answer(204)) as server:
        own = await check(server.port, own_ports=(server.port,))
    unknown = await check(1, url="https://app.invalid/")
    metadata = await check(1, url="http://169.254.169.254/")

    assert own.sentence == "Its address is rejected: requests are never sent to a port of this gateway."
    assert unknown.sentence == "Its host name has no address."
    assert "link-local" in metadata.sentence


async def test_certificate_and_port_without_tls_are_named(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "server.pem")
    async with serving(answer(204), tls=server_context(certificate)) as server:
        untrusted = await check(server.port, url=f"https://127.0.0.1:{server.port}/")
        trusted = await check(
            server.port, url=f"https://127.0.0.1:{server.port}/", tls=WebhookTls(ca_file=str(certificate))
        )
    with socket.create_server(("127.0.0.1", free_port())) as plain:
        plain.listen()
        loop = asyncio.get_running_loop()
        plain.setblocking(False)

        async def speak() -> None:
            connection, _ = await loop.sock_accept(plain)
            await loop.sock_sendall(connection, b"220 mail.example.com\r\n")
            connection.close()

        speaking = asyncio.create_task(speak())
        port = plain.getsockname()[1]
        without_tls = await check(port, url=f"https://127.0.0.1:{port}/")
        await speaking

    assert untrusted.sentence == "Its certificate is rejected: self-signed certificate."
    assert trusted.level == "ok"
    assert without_tls.level == "problem"
    assert without_tls.sentence == "TLS fails with it."


async def test_missing_file_is_named() -> None:
    result = await check(1, url="https://app.invalid/", tls=WebhookTls(ca_file="/nowhere"))

    assert result.sentence == "It cannot be used: /nowhere has no certificates in PEM that can be read."
