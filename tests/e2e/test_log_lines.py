"""Everything that happens to a gateway at once: each line is JSON, and nothing that it was trusted with is in any.

What must not be in the log is looked for by value, so that no name of a field can hide it.
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
from tests.support.waiter import wait_until

pytestmark = pytest.mark.timeout(120)

# Pushes to this user meet a bug, which is the only way to an answer of 500.
WITH_A_BUG = """
import sys
from gateway.services.publish import MessagePublisher
publish = MessagePublisher.publish

async def fail(self, message, claim=None):
    if "user:bug" in message.rooms:
        hidden = message.arguments
        raise RuntimeError("a bug")
    return await publish(self, message, claim)

MessagePublisher.publish = fail
from gateway.cli import main
sys.argv = ["sio-gateway", *sys.argv[4:]]
main()
"""
SHORTEST = 6
"""Shorter parts would be found by chance."""


class Trusted:
    """Keeps what the gateway was trusted with, and finds it again."""

    def __init__(self) -> None:
        self._what: dict[str, str] = {}

    def new(self, what: str) -> str:
        """A text that is nowhere else, with characters that URLs and JSON write in other ways."""
        return self.keep(what, f'{secrets.token_hex(8)}/+"ü {secrets.token_hex(8)}')

    def keep(self, what: str, value: str) -> str:
        self._what[value] = what
        return value

    def keep_token(self, value: str) -> str:
        """A JSON Web Token: each of its parts is as private as all of it, but for the header, which all have."""
        header, *rest = self.keep("a token", value).split(".")
        for part in rest if header.startswith("eyJhbGciOiAiSFMyNTYi") else [header, *rest]:
            self.keep("a part of a token", part)
        return value

    def found_in(self, text: str) -> dict[str, str]:
        """What of it stands there, in any of its forms."""
        found = {}
        for value, what in self._what.items():
            for form in _forms(value):
                if len(form) >= SHORTEST and form in text:
                    found[form] = what
        return found


def _forms(value: str) -> set[str]:
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


class Everything:
    """One gateway on a Redis of its own, and everybody who has to do with it."""

    def __init__(self, node: NodeClients, folder: Path, stack: ExitStack, *, level: str) -> None:
        """``stack`` ends what was started."""
        self.trusted = Trusted()
        keep = self.trusted.keep
        self.redis_password = keep("the password of Redis", secrets.token_hex(16))
        self.ingest_secret = keep("the secret of an ingest key", secrets.token_urlsafe(32))
        self.jwt_secret = keep("the secret of tokens", secrets.token_urlsafe(32))
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
        self.backend = RecordingBackend(self.url, "shop", self.ingest_secret, self.trusted)

    def token(self, user: str, *, secret: str | None = None, **claims: Any) -> str:
        return self.trusted.keep_token(token(user, secret or self.jwt_secret, **claims))

    def open(self, **options: Any) -> StockClient:
        return self.node.open(self.url, transports=["websocket"], **options)

    def refused(self, **options: Any) -> str:
        """The code that a client is refused with."""
        entry = self.open(**options).wait("connect_error")
        return str((entry.get("data") or {}).get("code", entry["message"]))

    def event(self, name: str, **fields: Any) -> dict[str, Any]:
        """The first such line of the log."""
        return self.gateway.log.wait(
            lambda line: line.get("event") == name and all(line.get(k) == v for k, v in fields.items())
        )


class RecordingBackend(Backend):
    """A backend whose signatures are kept as what must not be logged."""

    def __init__(self, url: str, key_id: str, secret: str, trusted: Trusted) -> None:
        super().__init__(url, key_id, secret)
        object.__setattr__(self, "_trusted", trusted)

    def sign(self, *arguments: Any, **options: Any) -> dict[str, str]:
        headers = super().sign(*arguments, **options)
        trusted: Trusted = self._trusted  # type: ignore[attr-defined]
        trusted.keep("a signature", headers["X-Gateway-Signature"].removeprefix("v1="))
        trusted.keep("a nonce", headers["X-Gateway-Nonce"])
        return headers


@pytest.fixture(params=["info", "debug"])
def all_(request: pytest.FixtureRequest, node: NodeClients, tmp_path: Path) -> Iterator[Everything]:
    with ExitStack() as stack:
        yield Everything(node, tmp_path, stack, level=request.param)


async def test_every_line_is_one_json_object_and_nothing_that_was_trusted_to_it_is_in_any(
    all_: Everything, http: aiohttp.ClientSession
) -> None:
    for act in (
        tokens_good_and_bad,
        events_of_clients,
        recoveries,
        pushes_good_and_bad,
        endings,
    ):
        await asyncio.to_thread(act, all_)
    await malformed(all_, http)
    await asyncio.to_thread(redis_away, all_)
    await asyncio.to_thread(reload_and_stop, all_)

    entries = all_.gateway.log.entries
    assert [entry for entry in entries if not {"timestamp", "level", "event"} <= entry.keys()] == []
    assert all(list(entry)[:3] == ["timestamp", "level", "event"] for entry in entries)
    text = "\n".join(
        json.dumps(entry, ensure_ascii=False) for entry in [*entries, *all_.gateway.printed.entries]
    )
    assert all_.trusted.found_in(text) == {}
    assert {entry["event"] for entry in entries} >= {
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


def test_what_is_looked_for_would_be_found() -> None:
    trusted = Trusted()
    value, whole = trusted.new("a word"), trusted.keep_token(token("ann", "a secret"))
    first, last = value.split()[0].partition("/")[0], whole.split(".")[2]

    assert trusted.found_in("nothing of it") == {}
    for shown in (value, quote(value), quote_plus(value), json.dumps(value), value.split()[-1], whole, last):
        assert trusted.found_in(f"reason: {shown}!") != {}, shown
    assert first not in trusted.found_in(first[: SHORTEST - 1])


# --- what happens ---


def tokens_good_and_bad(all_: Everything) -> None:
    assert all_.refused(token=all_.token("ann", secret="another" * 6)) == "token_signature_invalid"
    assert all_.refused(token=all_.token("ann", lifetime_seconds=-60)) == "token_expired"
    assert all_.refused(token=all_.token("x" * 300)) == "token_invalid"
    assert all_.refused(token=all_.token("ann", orgId=all_.trusted.new("a claim") + "\n")) == "token_invalid"
    odd = {"alg": "none", "kid": all_.trusted.new("a kid")}
    assert all_.refused(token=all_.trusted.keep_token(sign(odd, {"sub": "ann"}, "x"))).startswith("token_")
    assert all_.refused(token=all_.trusted.new("no token at all")) == "token_malformed"
    assert all_.refused(auth={"token": {"not": all_.trusted.new("a token")}}).startswith("token_")
    assert all_.refused(auth={}) == "token_missing"
    assert all_.refused(query={"token": all_.token("ann", secret="q" * 40)}) == "token_signature_invalid"
    namespace = f"/{secrets.token_hex(16)}"
    all_.trusted.keep("a namespace that somebody made up", namespace)
    assert all_.refused(token=all_.token("ann"), namespace=namespace) == "Invalid namespace"
    query = {"token": all_.token("by-query"), "q": all_.trusted.new("a query")}
    all_.open(query=query).connected().disconnect()
    header = {"authorization": f"Bearer {all_.token('by-header')}"}
    all_.open(extraHeaders=header).connected().disconnect()
    both = [all_.open(token=all_.token("many")).connected() for _ in range(2)]
    assert all_.refused(token=all_.token("many")) == "too_many_connections"
    for client in both:
        client.disconnect()


def events_of_clients(all_: Everything) -> None:
    client = all_.open(token=all_.token("ann")).connected()
    payload = all_.trusted.new("what a client sent")
    assert "error" in client.emit_with_ack(all_.trusted.new("the name of an event"), payload)
    client.emit("chat", {"text": payload})
    assert client.emit_with_ack("auth:refresh", all_.token("ann", secret="z" * 40))["ok"] is False
    assert client.emit_with_ack("auth:refresh", all_.token("ann"))["ok"] is True
    for number in range(40):
        client.emit("flood", payload, number)
    client.wait("disconnect")


def recoveries(all_: Everything) -> None:
    client = all_.open(token=all_.token("ann")).connected()
    all_.trusted.keep("a pid", client.wait("connect")["pid"])
    assert all_.backend.push_user("ann", "news", all_.trusted.new("a payload")).status == 200
    client.event("news")
    client.close_engine()
    assert client.wait("connect", count=2)["recovered"] is True
    client.disconnect()
    for pid, offset in (
        (all_.trusted.keep("a pid", secrets.token_urlsafe(24)), "1795262400123-4567"),
        (all_.trusted.new("a pid of another form"), all_.trusted.new("an offset")),
        (all_.trusted.keep("a pid", secrets.token_urlsafe(24)), {"x": all_.trusted.new("an offset")}),
    ):
        auth = {"token": all_.token("ann"), "pid": pid, "offset": offset}
        gone = all_.open(auth=auth).connected()
        gone.event("recovery:failed")
        gone.disconnect()
    all_.trusted.keep("a position that a client gave", "1795262400123-4567")
    resume = all_.trusted.keep("a position that a client gave", "1795262400124-7654")
    kept = all_.open(auth={"token": all_.token("ann"), "resume": resume}).connected()
    kept.disconnect()


def pushes_good_and_bad(all_: Everything) -> None:
    client = all_.open(token=all_.token("ann")).connected()
    backend, new = all_.backend, all_.trusted.new
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": f"x={secrets.token_hex(8)}"}
    all_.trusted.keep("a tracestate", trace["tracestate"])
    event = all_.trusted.keep("the name of an event", secrets.token_hex(12))
    body = json.dumps({"event": event, "data": {new("a key"): new("a payload")}}).encode()
    key = all_.trusted.keep("an idempotency key", secrets.token_hex(16))
    for _ in range(2):
        assert backend.send("POST", "/emit/user/ann", body, headers=trace, idempotency_key=key).status == 200
    client.event(event)
    target = f"/emit/user/ann?q={quote(new('a query'))}"
    assert backend.send("POST", target, body).status == 200
    for status, method, path, sent, headers in (
        (400, "POST", "/broadcast", new("no JSON").encode(), {}),
        (422, "POST", "/broadcast", json.dumps({"event": new("e"), new("f"): 1}).encode(), {}),
        (415, "POST", "/broadcast", body, {"Content-Type": new("a type").replace("ü", "u")}),
        (401, "POST", "/broadcast", body, {"X-Gateway-Signature": f"v1={secrets.token_hex(32)}"}),
        (401, "POST", "/broadcast", body, {"X-Gateway-Key": all_.ingest_secret}),
        (401, "POST", "/broadcast", body, {"X-Gateway-Timestamp": "1"}),
        (
            200,
            "POST",
            "/broadcast",
            body,
            {"traceparent": all_.trusted.keep("rubbish", secrets.token_hex(8))},
        ),
        (404, "GET", f"/nowhere?{quote(new('a query'))}", b"", {}),
        (405, "GET", "/broadcast", b"", {}),
        (500, "POST", "/emit/user/bug", body, {}),
    ):
        answer = backend.send(method, path, sent, headers=headers)
        assert answer.status == status, (path, answer)
    client.disconnect()


def endings(all_: Everything) -> None:
    for user, order in (("kick", {}), ("revoke", {"revoke": True})):
        client = all_.open(token=all_.token(user)).connected()
        assert all_.backend.disconnect(user, **order).status == 200
        client.wait("disconnect")
    soon = all_.open(token=all_.token("soon", lifetime_seconds=2)).connected()
    soon.wait("disconnect")
    soon.disconnect()


async def malformed(all_: Everything, http: aiohttp.ClientSession) -> None:
    new = all_.trusted.new
    for frames in (
        (new("a frame"),),
        (f"42[{json.dumps(new('an event'))}",),
        ('451-["x",{"_placeholder":true,"num":9}]', new("an attachment").encode()),
        (f"4{'9' * 30}{new('a packet')}",),
    ):
        joins = await RawSocket.open(http, all_.url)
        await joins.join(all_.token("raw"))
        await joins.send(*frames)
        await joins.closed()
    polling = await RawPolling(http, all_.url).open(query=f"&q={quote(new('a query'))}")
    all_.trusted.keep("the sid of a transport", polling.sid.partition(".")[2])
    await polling.join(all_.token("polls"))
    await polling.post(new("a packet"))
    for query in (
        f"EIO=3&transport=polling&token={all_.token('old')}",
        f"EIO=4&transport={quote(new('a transport'))}",
        f"EIO=4&transport=polling&sid={quote(new('a sid'))}",
    ):
        async with http.get(f"{all_.url}/socket.io/?{query}") as answer:
            assert answer.status == 400
    origin = {"Origin": "https://evil.example"}
    async with http.get(f"{all_.url}/socket.io/?EIO=4&transport=polling", headers=origin) as answer:
        assert answer.status == 403
    for sent in (
        f"GET /{secrets.token_hex(4)} HTTP/1.1\r\nHost: x\r\nBad Name: {new('a header')}\r\n\r\n",
        f"GET /?{quote(new('a query'))} HTTP/9.9\r\n\r\n",
        f"POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{new('half a body')}",
        f"GET / HTTP/1.1\r\nAuthorization: {new('half a head')}",
        new("no HTTP"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", all_.gateway.ports[0])
        writer.write(sent.encode())
        assert await asyncio.wait_for(reader.read(), 20) != b""
        writer.close()
    assert all_.event("handshake.rejected", reason="forbidden_origin")["origin"] == "https://evil.example"


def redis_away(all_: Everything) -> None:
    stays = all_.open(token=all_.token("stays")).connected()
    all_.redis.kill()
    answer = all_.backend.push_user("stays", "news", all_.trusted.new("a payload"))
    assert answer.status == 503, answer
    all_.open(token=all_.token("comes too early")).wait("connect_error")
    all_.redis.start()
    payload = all_.trusted.new("a payload")
    wait_until(lambda: all_.backend.push_user("stays", "back", payload).status == 200, "Redis is back")
    stays.event("back", timeout=30)
    stays.disconnect()


def reload_and_stop(all_: Everything) -> None:
    all_.gateway.signal(signal.SIGHUP)
    all_.event("settings.reloaded")
    here = all_.open(token=all_.token("here")).connected()
    try:
        urllib.request.urlopen(f"{all_.url}/health/ready?token={all_.token('probe')}", timeout=5).close()
    except urllib.error.HTTPError as refused:
        refused.close()
    assert all_.gateway.stop() == 0
    here.disconnect()
