"""The request for a key set: its headers, and the proxies of the environment. Each test runs a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.auth import fetch_text
from tests.support.certificate import make_certificate, server_context
from tests.support.ports import free_port

PROGRAM: Final = """
import asyncio, sys
from gateway.auth import fetch_text
print(asyncio.run(fetch_text(sys.argv[1], user_agent="sio-gateway/1.2.3")))
"""


class Proxy:
    """An HTTP proxy: it notes the first line of each request and connects to 127.0.0.1, whatever the host."""

    def __init__(self, port: int) -> None:
        self.requests: list[str] = []
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.decode().splitlines()[0]
        self.requests.append(line)
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._port)
        if line.startswith("CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            upstream.write(head.replace(b"GET http://issuer.test", b"GET ", 1))
        self._tasks = {
            asyncio.create_task(_copy(*pair)) for pair in ((reader, upstream), (upstream_reader, writer))
        }


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
    target.close()


class Issuer:
    """Answers with ``keys`` and notes the headers."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    async def publish(self, request: web.Request) -> web.Response:
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        return web.Response(text="keys")


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(params=["http", "https"])
async def server(issuer: Issuer, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_get("/keys", issuer.publish)
    server = TestServer(app, scheme=request.param)
    certificate = make_certificate(tmp_path / "issuer.pem")
    await server.start_server(ssl=server_context(certificate) if request.param == "https" else None)
    yield server
    await server.close()


@pytest.fixture
async def proxy(server: TestServer) -> AsyncIterator[tuple[Proxy, str]]:
    assert server.port is not None
    proxy = Proxy(server.port)
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", free_port())
    yield proxy, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    listening.close()


async def fetched(url: str, tmp_path: Path, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        url,
        env={**inherited, "SSL_CERT_FILE": str(tmp_path / "issuer.pem"), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode().strip()


async def test_request_names_the_gateway_and_wants_no_cached_set(
    server: TestServer, issuer: Issuer, tmp_path: Path
) -> None:
    assert await fetched(str(server.make_url("/keys")), tmp_path) == "keys"

    assert issuer.headers["user-agent"] == "sio-gateway/1.2.3"
    assert issuer.headers["cache-control"] == "no-cache"
    assert issuer.headers["accept"] == "application/json"


@pytest.mark.parametrize("upper_case", [True, False])
async def test_key_set_is_fetched_through_the_proxy_of_the_environment(
    server: TestServer, proxy: tuple[Proxy, str], tmp_path: Path, upper_case: bool
) -> None:
    name = f"{server.scheme}_proxy"
    url = str(server.make_url("/keys"))
    if server.scheme == "http":
        url = "http://issuer.test/keys"

    answer = await fetched(url, tmp_path, **{name.upper() if upper_case else name: proxy[1]})

    assert answer == "keys"
    expected = (
        "GET http://issuer.test/keys HTTP/1.1"
        if server.scheme == "http"
        else f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"
    )
    assert proxy[0].requests == [expected]


async def test_host_in_no_proxy_is_reached_directly(
    server: TestServer, proxy: tuple[Proxy, str], tmp_path: Path
) -> None:
    environment = {"HTTP_PROXY": proxy[1], "HTTPS_PROXY": proxy[1], "NO_PROXY": "other.test,127.0.0.1"}

    assert await fetched(str(server.make_url("/keys")), tmp_path, **environment) == "keys"
    assert proxy[0].requests == []


@pytest.mark.parametrize("proxy", ["user:hunter2@127.0.0.1:1", "http://user:hunter2@127.0.0.1:1"])
async def test_password_of_a_proxy_is_in_no_error(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    with pytest.raises(aiohttp.ClientError) as raised:
        await fetch_text("https://issuer.test/keys", user_agent="sio-gateway/1.2.3")

    assert "hunter2" not in str(raised.value)
