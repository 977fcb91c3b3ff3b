"""Webhooks that attack the gateway, and names that lead to other machines."""

from __future__ import annotations

import asyncio
import gzip
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.webhooks import WebhookClient
from tests.integration.webhooks.conftest import MakeClient, call, failure, webhook
from tests.support.certificate import make_certificate, server_context
from tests.support.raw_webhook_server import Request, answer, response, serving

GIB = 1024**3
CHUNK = b"a" * 65536
MAX_TAKEN = 32 * 1024 * 1024
"""More than the buffers of the kernel on both sides, and far less than what is sent."""


@pytest.mark.parametrize("head", ["transfer-encoding: chunked", f"content-length: {GIB}"])
async def test_body_of_a_gibibyte_is_not_read(make_client: MakeClient, head: str) -> None:
    sent = 0

    async def flood(_request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode())
        while sent < GIB:
            writer.write(b"10000\r\n" + CHUNK + b"\r\n" if "chunked" in head else CHUNK)
            await writer.drain()
            sent += len(CHUNK)

    async with serving(flood) as server:
        assert (await failure(make_client(webhook(server.port)))).code == "backend_error"
        async with asyncio.timeout(30):
            await server.ended.wait()

    assert sent < MAX_TAKEN


async def test_head_without_an_end_is_not_read(make_client: MakeClient) -> None:
    sent = 0

    async def flood(_request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while sent < GIB:
            writer.write(b"x: " + CHUNK[:4096] + b"\r\n")
            await writer.drain()
            sent += 4096

    async with serving(flood) as server:
        assert (await failure(make_client(webhook(server.port)))).code == "backend_error"
        async with asyncio.timeout(30):
            await server.ended.wait()

    assert sent < MAX_TAKEN


@pytest.mark.parametrize("headers", [("content-encoding: gzip",), ("content-encoding: identity",), ()])
async def test_compressed_answer_is_not_decompressed(
    make_client: MakeClient, headers: tuple[str, ...]
) -> None:
    bomb = gzip.compress(b"0" * (100 * 1024 * 1024))[:60_000]

    async with serving(answer(200, bomb, *headers)) as server:
        assert (await failure(make_client(webhook(server.port)))).code == "backend_error"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_reaches_no_second_host(status: int) -> None:
    async with serving(answer(200)) as second:
        location = f"location: http://127.0.0.1:{second.port}/latest/meta-data/"
        async with serving(answer(status, b"", location)) as first:
            client = make(first.port)
            assert (await failure(client)).code == "backend_error"
            await client.close()

    assert second.connections == 0


def make(port: int, **fields: Any) -> WebhookClient:
    from gateway.metrics import MetricFactory
    from gateway.timers import SystemClock

    return WebhookClient(
        [webhook(port, **fields)], clock=SystemClock(), metrics=MetricFactory(), user_agent="sio-gateway/test"
    )


class Names:
    """The answers of DNS: every name has ``address``. Numbers are resolved as ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = "127.0.0.1"
        self.asked = 0
        real = socket.getaddrinfo

        def getaddrinfo(host: Any, port: Any, *arguments: Any, **keywords: Any) -> Any:
            if host == "app.example.com":
                self.asked += 1
                host = self.address
            return real(host, port, *arguments, **keywords)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "224.0.0.1", "0.0.0.0"])
async def test_name_that_moves_to_a_forbidden_address_is_not_reached(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    names = Names(monkeypatch)

    async def reply(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b'{"ack":1}', "connection: close"))

    async with serving(reply) as server:
        url = f"http://app.example.com:{server.port}/"
        assert (await call(make_client(webhook(server.port, url=url)))).ack == 1
        names.address = address
        client = make(server.port, url=url)
        error = await failure(client)
        await client.close()

    assert (error.code, len(server.requests), names.asked) == ("backend_unavailable", 1, 2)


async def test_own_port_is_not_reached(make_client: MakeClient) -> None:
    async with serving(answer(200)) as server:
        client = make_client(webhook(server.port), own_ports=lambda: {server.port})

        assert (await failure(client)).code == "backend_unavailable"

    assert server.connections == 0


async def test_certificate_must_be_trusted(make_client: MakeClient, tmp_path: Path) -> None:
    from gateway.domain.webhooks import WebhookTls

    certificate = make_certificate(tmp_path / "server.pem")
    async with serving(answer(200, b'{"ack":1}'), tls=server_context(certificate)) as server:
        url = f"https://127.0.0.1:{server.port}/"
        unknown = make(server.port, url=url)
        error = await failure(unknown)
        await unknown.close()
        trusting = make_client(webhook(server.port, url=url, tls=WebhookTls(ca_file=str(certificate))))

        assert error.code == "backend_unavailable"
        assert (await call(trusting)).ack == 1

    assert len(server.requests) == 1


async def test_client_certificate_is_presented(make_client: MakeClient, tmp_path: Path) -> None:
    from gateway.domain.webhooks import WebhookTls

    certificate, own = make_certificate(tmp_path / "server.pem"), make_certificate(tmp_path / "client.pem")
    async with serving(answer(200, b'{"ack":1}'), tls=server_context(certificate, client=own)) as server:
        url = f"https://127.0.0.1:{server.port}/"
        tls = WebhookTls(ca_file=str(certificate), cert_file=str(own), key_file=str(own.with_suffix(".key")))

        assert (await call(make_client(webhook(server.port, url=url, tls=tls)))).ack == 1
