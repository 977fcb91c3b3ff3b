"""The order of checks: each request passes the checks before one, and fails that one and all after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.domain.ingest_keys import IngestKey, Scope
from gateway.domain.rate_limit import Rate
from tests.unit.ingest_api.harness import NOW, SECRET, Headers, HttpResponse, RestApiServer, run_rest_api

NARROW = IngestKey("narrow", (SECRET,), (Scope.parse("emit:room:org:*"),), Rate(per_second=1.0, burst=1))
VALID = b'{"event":"e","room":"org:7"}'


@dataclass
class Request:
    """A request that is wrong in every respect at first. The test corrects one field after the other."""

    method: str = "PUT"
    target: str = "/emit/rooms"
    encoding: str = "gzip"
    expect: str = "nothing"
    length: int = 100_001
    nonce: str = "short"
    idempotency_key: str = ""
    key_id: str = "unknown"
    timestamp: int = 0
    secret: str = "another secret, long enough as well, but another"
    media_type: str = "text/plain"
    body: bytes = b"{"

    async def send(self, server: RestApiServer) -> HttpResponse:
        signed = dict(
            server.sign(
                self.method,
                self.target,
                self.body,
                key=IngestKey(self.key_id, (self.secret,)),
                timestamp=self.timestamp,
                nonce=self.nonce,
                idempotency_key=self.idempotency_key,
            )
        )
        headers: Headers = [
            *signed.items(),
            ("Content-Type", self.media_type),
            *([("Content-Encoding", self.encoding)] if self.encoding else []),
        ]
        headers += [("Expect", self.expect), ("Content-Length", str(self.length))]
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers if name != "Expect" or value)
        async with server.open_connection() as connection:
            head = f"{self.method} {self.target} HTTP/1.1\r\nHost: gateway\r\n{lines}\r\n"
            await connection.send(head.encode() + self.body)
            return await connection.read_response()


CORRECTIONS: list[tuple[dict[str, Any], tuple[int, str]]] = [
    ({}, (404, "not_found")),
    ({"target": "/emit/room"}, (405, "method_not_allowed")),
    ({"method": "POST"}, (415, "unsupported_encoding")),
    ({"encoding": ""}, (417, "unsupported_expectation")),
    ({"expect": ""}, (413, "body_too_large")),
    ({"length": 1}, (401, "missing_signature")),
    ({"nonce": "long-enough"}, (400, "invalid_idempotency_key")),
    ({"idempotency_key": "one"}, (401, "unknown_key")),
    ({"key_id": "idle"}, (401, "timestamp_out_of_range")),
    # The body is one byte shorter than its declared length.
    ({"timestamp": int(NOW), "length": 2}, (408, "body_timeout")),
    ({"length": 1}, (401, "bad_signature")),
    ({"secret": SECRET}, (403, "missing_scope")),
    ({"key_id": "narrow"}, (415, "unsupported_media_type")),
    ({}, (429, "rate_limited")),
]

LATER_CORRECTIONS: list[tuple[dict[str, Any], tuple[int, str]]] = [
    ({"media_type": "application/json"}, (400, "invalid_json")),
    ({"body": b'{"room":"org:7","x":1}'}, (422, "invalid_body")),
    ({"body": b'{"event":"e","room":"user:7"}'}, (403, "missing_scope")),
    ({"body": VALID}, (200, "ok")),
    ({"idempotency_key": "two"}, (401, "replayed_request")),
]


async def test_checks_run_in_the_documented_order() -> None:
    idle = IngestKey("idle", (SECRET,), (Scope.parse("presence"),))
    async with run_rest_api(keys=(idle, NARROW), body_timeout_seconds=0.2) as server:
        request = Request()
        for change, expected in CORRECTIONS:
            vars(request).update(change)
            assert (await request.send(server)).problem == expected, change

        for change, expected in LATER_CORRECTIONS:
            vars(request).update(change, length=len(change.get("body", request.body)))
            server.clock.advance(1)  # the rate allows one more request
            response = await request.send(server)
            assert (response.status, response.code if response.status != 200 else "ok") == expected, change
