"""With a port of their own for backends, nothing of the REST door is reachable where browsers are, and vice versa."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import aiohttp
import pytest

from tests.support.backend import Backend
from tests.support.clients import Clients
from tests.support.gateway_process import GatewayProcess

BACKENDS_ONLY = ["/health/live", "/health/ready", "/metrics", "/openapi.yaml"]
BROWSERS_ONLY = [
    "/socket.io/?EIO=4&transport=polling",
    "/socket.io/socket.io.js",
    "/socket.io/socket.io.min.js",
]


@pytest.fixture(scope="module")
def split() -> Iterator[GatewayProcess]:
    process = GatewayProcess(ingest_port=0)
    assert len(set(process.ports)) == 2
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def test_what_comes_in_at_one_port_goes_out_at_the_other(
    split: GatewayProcess, clients: Clients, user: str
) -> None:
    client = clients.open(split.url, token=split.token(user)).connected()

    assert split.push_user(user, "note", 1)["connections"] == 1

    assert client.event("note") == [1]
    assert split.backend.presence(user)["online"] is True
    client.disconnect()


@pytest.mark.parametrize("path", BACKENDS_ONLY)
async def test_backends_and_probes_are_served_at_their_port_alone(
    split: GatewayProcess, http: aiohttp.ClientSession, path: str
) -> None:
    async with http.get(f"{split.ingest_url}{path}") as served:
        assert served.status == 200
    async with http.get(f"{split.url}{path}") as unknown:
        await expect_not_found(unknown)


@pytest.mark.parametrize("path", BROWSERS_ONLY)
async def test_browsers_are_served_at_their_port_alone(
    split: GatewayProcess, http: aiohttp.ClientSession, path: str
) -> None:
    async with http.get(f"{split.url}{path}") as served:
        assert served.status == 200
        if (await served.text())[:1] == "0":
            sid = (await served.text()).split('"')[3]
            await (await http.post(f"{split.url}{path}&sid={sid}", data="1")).read()
    async with http.get(f"{split.ingest_url}{path}") as unknown:
        await expect_not_found(unknown)
    if "EIO" in path:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(f"{split.ingest_url}{path.replace('polling', 'websocket')}")
        assert caught.value.status == 404


def test_signed_requests_are_not_even_looked_at_where_browsers_are(split: GatewayProcess, user: str) -> None:
    backend = Backend(split.url, split.key_id, split.secret)

    for answer in (
        backend.push_user(user, "note"),
        backend.push_room("org:7", "note"),
        backend.broadcast("note"),
        backend.disconnect(user),
        backend.send("GET", f"/presence/{user}"),
    ):
        assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
        assert answer.body["code"] == "not_found"


def test_both_ports_answer_an_unknown_path_in_the_same_words(split: GatewayProcess) -> None:
    for port in split.ports:
        backend = Backend(f"http://127.0.0.1:{port}", split.key_id, split.secret)
        answer = backend.send("GET", "/nothing/here")
        assert (answer.status, answer.body["code"], answer.body["title"]) == (404, "not_found", "Not Found")


async def expect_not_found(answer: aiohttp.ClientResponse) -> None:
    assert (answer.status, answer.content_type) == (404, "application/problem+json")
    assert (await answer.json(content_type=None))["code"] == "not_found"


def test_a_port_that_is_taken_is_named_with_what_to_do_and_the_process_ends(split: GatewayProcess) -> None:
    taken = str(split.ports[0])
    environment = {"GATEWAY_PORT": taken, "GATEWAY_LOG_FORMAT": "json", "PATH": os.environ["PATH"]}

    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--dev"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    said = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.returncode == 1
    assert [line["reason"].split(":")[0] for line in said if line["event"] == "gateway.cannot_listen"] == [
        f"port {taken} of 127.0.0.1 cannot be opened"
    ]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
async def test_probes_are_asked_with_get_and_told_so_otherwise(
    split: GatewayProcess, http: aiohttp.ClientSession, path: str
) -> None:
    async with http.head(f"{split.ingest_url}{path}") as served:
        assert served.status == 200
    async with http.post(f"{split.ingest_url}{path}", data=b"{}") as refused:
        assert (refused.status, refused.headers["Allow"]) == (405, "GET,HEAD")
        assert (await refused.json(content_type="application/problem+json"))["code"] == "method_not_allowed"
