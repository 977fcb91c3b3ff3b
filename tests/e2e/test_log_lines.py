"""Log lines of a gateway under every kind of request: each is one JSON object, and none contains a secret.

Secrets are searched by value, so a secret is found under any name of a field.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import pytest

from tests.support.backend import Backend
from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawPolling, RawSocket
from tests.support.redis_server import RedisServer
from tests.support.tokens import sign, token
from tests.support.waiter import TIMEOUT_SECONDS, wait_until

# Pushes to this user raise an exception, the only way to an answer of 500.
WITH_A_BUG = """
import sys
from gateway.services.publish import MessagePublisher
publish, publish_now = MessagePublisher.publish, MessagePublisher.publish_now

async def fail(self, message, *more, **options):
    if "user:bug" in message.rooms:
        hidden = message.arguments
        raise RuntimeError("a bug")
    return await publish(self, message, *more, **options)

def leave_it(self, message, *more):
    return None if "user:bug" in message.rooms else publish_now(self, message, *more)

MessagePublisher.publish, MessagePublisher.publish_now = fail, leave_it
from gateway.cli import main
sys.argv = ["sio-gateway", *sys.argv[4:]]
main()
"""
SHORTEST = 6
"""The least length of a part to search for; shorter ones would be found by chance."""


class Secrets:
    """Values that must not be in the log, each with a description, and a search for them."""

    def __init__(self) -> None:
        self._descriptions: dict[str, str] = {}

    def new(self, description: str) -> str:
        """A unique value, with characters that URLs and JSON escape."""
        return self.add(description, f'{secrets.token_hex(8)}/+"ü {secrets.token_hex(8)}')

    def add(self, description: str, value: str) -> str:
        self._descriptions[value] = description
        return value

    def add_token(self, value: str) -> str:
        """A JSON Web Token. Each of its parts is a secret too, except the header that all tokens share."""
        header, *rest = self.add("a token", value).split(".")
        for part in rest if header.startswith("eyJhbGciOiAiSFMyNTYi") else [header, *rest]:
            self.add("a part of a token", part)
        return value

    def found_in(self, text: str) -> dict[str, str]:
        """The secrets in ``text``, in any encoding, with their descriptions."""
        found = {}
        for value, description in self._descriptions.items():
            for form in _encodings(value):
                if len(form) >= SHORTEST and form in text:
                    found[form] = description
        return found


def _encodings(value: str) -> set[str]:
    plain = {value, *value.replace('"', " ").split()}
    return {
        form
        for part in plain
        for form in (
            part,
            quote(part),
            quote(part, safe=""),
            quote_plus(part),
            json.dumps(part)[1:-1],
            base64.b64encode(part.encode()).decode().rstrip("="),
            part.encode().hex(),
        )
    }


class Scenario:
    """One gateway on its own Redis, with clients and a backend."""

    def __init__(self, node: NodeClients, folder: Path, stack: ExitStack, *, level: str) -> None:
        """``stack`` stops the servers at the end."""
        self.secret_values = Secrets()
        add = self.secret_values.add
        self.redis_password = add("the password of Redis", secrets.token_hex(16))
        self.ingest_secret = add("the secret of an ingest key", secrets.token_urlsafe(32))
        self.jwt_secret = add("the secret of tokens", secrets.token_urlsafe(32))
        (folder / "jwt").write_text(self.jwt_secret)
        self.redis = RedisServer(requirepass=self.redis_password)
        stack.callback(self.redis.stop)
        self.gateway = GatewayProcess(
            under=[sys.executable, "-c", WITH_A_BUG],
            redis_url=f"redis://:{self.redis_password}@127.0.0.1:{self.redis.port}",
            jwt_secret="",
            jwt_secret_file=folder / "jwt",
            ingest_keys=f"shop:{self.ingest_secret}",
            log_level=level,
            cors_origins="https://app.example",
            max_connections_per_user=2,
            message_rate=5,
            request_timeout_seconds=1,
            lease_seconds=5,
            subscription_timeout_seconds=2,
        )
        stack.callback(self.gateway.kill)
        self.gateway.jwt_secret = self.jwt_secret
        self.node = node
        self.url = self.gateway.url
        self.backend = RecordingBackend(self.url, "shop", self.ingest_secret, self.secret_values)

    def token(self, user: str, *, secret: str | None = None, **claims: Any) -> str:
        return self.secret_values.add_token(token(user, secret or self.jwt_secret, **claims))

    def open(self, **options: Any) -> StockClient:
        return self.node.open(self.url, transports=["websocket"], **options)

    def rejected(self, **options: Any) -> str:
        """Connect a client that must be rejected; the code that it gets."""
        entry = self.open(**options).wait("connect_error")
        return str((entry.get("data") or {}).get("code", entry["message"]))

    def event(self, name: str, **fields: Any) -> dict[str, Any]:
        """The first line of the log with this event and these fields."""
        return self.gateway.log.wait(
            lambda line: line.get("event") == name and all(line.get(k) == v for k, v in fields.items())
        )


class RecordingBackend(Backend):
    """A backend that adds each signature and nonce to the secrets."""

    def __init__(self, url: str, key_id: str, secret: str, secret_values: Secrets) -> None:
        super().__init__(url, key_id, secret)
        object.__setattr__(self, "_secret_values", secret_values)

    def sign(self, *arguments: Any, **options: Any) -> dict[str, str]:
        headers = super().sign(*arguments, **options)
        secret_values: Secrets = self._secret_values  # type: ignore[attr-defined]
        secret_values.add("a signature", headers["X-Gateway-Signature"].removeprefix("v1="))
        secret_values.add("a nonce", headers["X-Gateway-Nonce"])
        return headers


@pytest.fixture(params=["info", "debug"])
def scenario(request: pytest.FixtureRequest, node: NodeClients, tmp_path: Path) -> Iterator[Scenario]:
    with ExitStack() as stack:
        yield Scenario(node, tmp_path, stack, level=request.param)


async def test_each_log_line_is_one_json_object_and_contains_no_secret(
    scenario: Scenario, http: aiohttp.ClientSession
) -> None:
    for act in (
        tokens_valid_and_invalid,
        events_of_clients,
        recoveries,
        pushes_valid_and_invalid,
        disconnects,
    ):
        await asyncio.to_thread(act, scenario)
    await malformed(scenario, http)
    await asyncio.to_thread(redis_unavailable, scenario)
    await asyncio.to_thread(reload_and_stop, scenario)

    entries = scenario.gateway.log.entries
    assert [entry for entry in entries if not {"timestamp", "level", "event"} <= entry.keys()] == []
    assert all(list(entry)[:3] == ["timestamp", "level", "event"] for entry in entries)
    # At debug a rejected signature is explained with the text that was verified, which has the nonce.
    verified = "\n".join(entry.pop("verified_text", "") for entry in entries)
    assert set(scenario.secret_values.found_in(verified).values()) <= {"a nonce"}
    text = "\n".join(
        json.dumps(entry, ensure_ascii=False) for entry in [*entries, *scenario.gateway.printed.entries]
    )
    assert scenario.secret_values.found_in(text) == {}
    assert {entry["event"] for entry in entries} >= {
        "claim.ignored",
        "connection.closed",
        "connection.rejected",
        "handshake.rejected",
        "message.delivered",
        "packet.malformed",
        "redis.connection_lost",
        "request.answered",
        "request.failed",
        "settings.reloaded",
        "token.rejected",
        "gateway.stopped",
    }
    bugs = [entry for entry in entries if "exception" in entry]
    assert {entry["event"] for entry in bugs} == {"request.failed"}
    assert all(entry["exception"].endswith("RuntimeError: a bug") for entry in bugs)


def test_search_finds_a_secret_in_every_encoding() -> None:
    secret_values = Secrets()
    value, whole = secret_values.new("a word"), secret_values.add_token(token("ann", "a secret"))
    first, last = value.split()[0].partition("/")[0], whole.split(".")[2]

    assert secret_values.found_in("no secret") == {}
    for shown in (value, quote(value), quote_plus(value), json.dumps(value), value.split()[-1], whole, last):
        assert secret_values.found_in(f"reason: {shown}!") != {}, shown
    assert first not in secret_values.found_in(first[: SHORTEST - 1])


# --- scenario ---


def tokens_valid_and_invalid(scenario: Scenario) -> None:
    assert scenario.rejected(token=scenario.token("ann", secret="another" * 6)) == "token_signature_invalid"
    assert scenario.rejected(token=scenario.token("ann", lifetime_seconds=-60)) == "token_expired"
    assert scenario.rejected(token=scenario.token("x" * 300)) == "token_invalid"
    odd_claim = scenario.secret_values.new("a claim") + "\n"
    scenario.open(token=scenario.token("ann", orgId=odd_claim)).connected().disconnect()
    odd = {"alg": "none", "kid": scenario.secret_values.new("a kid")}
    assert scenario.rejected(
        token=scenario.secret_values.add_token(sign(odd, {"sub": "ann"}, "x"))
    ).startswith("token_")
    assert scenario.rejected(token=scenario.secret_values.new("no token at all")) == "token_malformed"
    assert scenario.rejected(auth={"token": {"not": scenario.secret_values.new("a token")}}).startswith(
        "token_"
    )
    assert scenario.rejected(auth={}) == "token_missing"
    assert (
        scenario.rejected(query={"token": scenario.token("ann", secret="q" * 40)})
        == "token_signature_invalid"
    )
    namespace = f"/{secrets.token_hex(16)}"
    scenario.secret_values.add("an unknown namespace", namespace)
    assert scenario.rejected(token=scenario.token("ann"), namespace=namespace) == "Invalid namespace"
    query = {"token": scenario.token("by-query"), "q": scenario.secret_values.new("a query")}
    scenario.open(query=query).connected().disconnect()
    header = {"authorization": f"Bearer {scenario.token('by-header')}"}
    scenario.open(extraHeaders=header).connected().disconnect()
    both = [scenario.open(token=scenario.token("many")).connected() for _ in range(2)]
    assert scenario.rejected(token=scenario.token("many")) == "too_many_connections"
    for client in both:
        client.disconnect()


def events_of_clients(scenario: Scenario) -> None:
    client = scenario.open(token=scenario.token("ann")).connected()
    payload = scenario.secret_values.new("what a client sent")
    assert "error" in client.emit_with_ack(scenario.secret_values.new("the name of an event"), payload)
    client.emit("chat", {"text": payload})
    assert client.emit_with_ack("auth:refresh", scenario.token("ann", secret="z" * 40))["ok"] is False
    assert client.emit_with_ack("auth:refresh", scenario.token("ann"))["ok"] is True
    for number in range(40):
        client.emit("flood", payload, number)
    client.wait("disconnect")


def recoveries(scenario: Scenario) -> None:
    client = scenario.open(token=scenario.token("ann")).connected()
    scenario.secret_values.add("a pid", client.wait("connect")["pid"])
    assert scenario.backend.push_user("ann", "news", scenario.secret_values.new("a payload")).status == 200
    client.event("news")
    client.close_engine()
    assert client.wait("connect", count=2)["recovered"] is True
    client.disconnect()
    for pid, offset in (
        (scenario.secret_values.add("a pid", secrets.token_urlsafe(24)), "1795262400123-4567"),
        (scenario.secret_values.new("a pid of another form"), scenario.secret_values.new("an offset")),
        (
            scenario.secret_values.add("a pid", secrets.token_urlsafe(24)),
            {"x": scenario.secret_values.new("an offset")},
        ),
    ):
        auth = {"token": scenario.token("ann"), "pid": pid, "offset": offset}
        gone = scenario.open(auth=auth).connected()
        gone.event("recovery:failed")
        gone.disconnect()
    scenario.secret_values.add("a position that a client gave", "1795262400123-4567")
    resume = scenario.secret_values.add("a position that a client gave", "1795262400124-7654")
    kept = scenario.open(auth={"token": scenario.token("ann"), "resume": resume}).connected()
    kept.disconnect()


def pushes_valid_and_invalid(scenario: Scenario) -> None:
    client = scenario.open(token=scenario.token("ann")).connected()
    backend, new = scenario.backend, scenario.secret_values.new
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": f"x={secrets.token_hex(8)}"}
    scenario.secret_values.add("a tracestate", trace["tracestate"])
    event = scenario.secret_values.add("the name of an event", secrets.token_hex(12))
    body = json.dumps({"event": event, "data": {new("a key"): new("a payload")}}).encode()
    key = scenario.secret_values.add("an idempotency key", secrets.token_hex(16))
    for _ in range(2):
        assert backend.send("POST", "/emit/user/ann", body, headers=trace, idempotency_key=key).status == 200
    client.event(event)
    target = f"/emit/user/ann?q={quote(new('a query'))}"
    assert backend.send("POST", target, body).status == 400
    assert backend.send("GET", f"/users?prefix={quote(new('a query'))}").status == 200
    for status, method, path, sent, headers in (
        (400, "POST", "/broadcast", new("no JSON").encode(), {}),
        (422, "POST", "/broadcast", json.dumps({"event": new("e"), new("f"): 1}).encode(), {}),
        (415, "POST", "/broadcast", body, {"Content-Type": new("a type").replace("ü", "u")}),
        (401, "POST", "/broadcast", body, {"X-Gateway-Signature": f"v1={secrets.token_hex(32)}"}),
        (401, "POST", "/broadcast", body, {"X-Gateway-Key": scenario.ingest_secret}),
        (401, "POST", "/broadcast", body, {"X-Gateway-Timestamp": "1"}),
        (
            200,
            "POST",
            "/broadcast",
            body,
            {"traceparent": scenario.secret_values.add("rubbish", secrets.token_hex(8))},
        ),
        (404, "GET", f"/nowhere?{quote(new('a query'))}", b"", {}),
        (405, "GET", "/broadcast", b"", {}),
        (500, "POST", "/emit/user/bug", body, {}),
    ):
        answer = backend.send(method, path, sent, headers=headers)
        assert answer.status == status, (path, answer)
    client.disconnect()


def disconnects(scenario: Scenario) -> None:
    for user, order in (("disconnected", {}), ("revoked", {"revoke": True})):
        client = scenario.open(token=scenario.token(user)).connected()
        assert scenario.backend.disconnect(user, **order).status == 200
        client.wait("disconnect")
    soon = scenario.open(token=scenario.token("soon", lifetime_seconds=6)).connected()
    soon.wait("disconnect")
    soon.disconnect()


async def malformed(scenario: Scenario, http: aiohttp.ClientSession) -> None:
    new = scenario.secret_values.new
    for frames in (
        (f"x{new('a frame')}",),  # x is no packet type; the value may begin with one
        (f"42[{json.dumps(new('an event'))}",),
        ('451-["x",{"_placeholder":true,"num":9}]', new("an attachment").encode()),
        (f"4{'9' * 30}{new('a packet')}",),
    ):
        joins = await RawSocket.open(http, scenario.url)
        await joins.join(scenario.token("raw"))
        await joins.send(*frames)
        await joins.closed()
    polling = await RawPolling(http, scenario.url).open(query=f"&q={quote(new('a query'))}")
    scenario.secret_values.add("the sid of a transport", polling.sid.partition(".")[2])
    await polling.join(scenario.token("polls"))
    await polling.post(new("a packet"))
    for query in (
        f"EIO=3&transport=polling&token={scenario.token('old')}",
        f"EIO=4&transport={quote(new('a transport'))}",
        f"EIO=4&transport=polling&sid={quote(new('a sid'))}",
    ):
        async with http.get(f"{scenario.url}/socket.io/?{query}") as answer:
            assert answer.status == 400
    origin = {"Origin": "https://evil.example"}
    async with http.get(f"{scenario.url}/socket.io/?EIO=4&transport=polling", headers=origin) as answer:
        assert answer.status == 403
    for sent in (
        f"GET /{secrets.token_hex(4)} HTTP/1.1\r\nHost: x\r\nBad Name: {new('a header')}\r\n\r\n",
        f"GET /?{quote(new('a query'))} HTTP/9.9\r\n\r\n",
        f"POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{new('half a body')}",
        f"GET / HTTP/1.1\r\nAuthorization: {new('half a head')}",
        new("no HTTP"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", scenario.gateway.ports[0])
        writer.write(sent.encode())
        assert await asyncio.wait_for(reader.read(), TIMEOUT_SECONDS) != b""
        writer.close()
    assert scenario.event("handshake.rejected", reason="forbidden_origin")["origin"] == "https://evil.example"


def redis_unavailable(scenario: Scenario) -> None:
    stays = scenario.open(token=scenario.token("stays")).connected()
    scenario.redis.kill()
    answer = scenario.backend.push_user("stays", "news", scenario.secret_values.new("a payload"))
    assert answer.status == 503, answer
    scenario.open(token=scenario.token("too early")).wait("connect_error")
    scenario.redis.start()
    payload = scenario.secret_values.new("a payload")
    wait_until(lambda: scenario.backend.push_user("stays", "back", payload).status == 200, "Redis is back")
    stays.event("back")
    stays.disconnect()


def reload_and_stop(scenario: Scenario) -> None:
    scenario.gateway.signal(signal.SIGHUP)
    scenario.event("settings.reloaded")
    here = scenario.open(token=scenario.token("here")).connected()
    try:
        urllib.request.urlopen(
            f"{scenario.url}/health/ready?token={scenario.token('probe')}", timeout=5
        ).close()
    except urllib.error.HTTPError as error:
        error.close()
    assert scenario.gateway.stop() == 0
    here.disconnect()
