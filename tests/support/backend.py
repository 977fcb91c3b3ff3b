"""A backend, written from the REST contract: one signed HTTP request for each call, with the standard library."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from tests.support.waiter import TIMEOUT_SECONDS


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Backend:
    """One ingest key of one gateway."""

    url: str
    key_id: str
    secret: str
    timeout: float = TIMEOUT_SECONDS

    def sign(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        idempotency_key: str = "",
        timestamp: int | None = None,
    ) -> dict[str, str]:
        """Return the headers of a signed request; ``timestamp`` is the present time unless it is given."""
        signed_at, nonce = str(int(time.time()) if timestamp is None else timestamp), secrets.token_hex(16)
        digest = hashlib.sha256(body).hexdigest()
        lines = ["v1", self.key_id, method, target, signed_at, nonce, idempotency_key, digest]
        text = "\n".join(lines)
        signature = hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        headers = {
            "X-Gateway-Key": self.key_id,
            "X-Gateway-Timestamp": signed_at,
            "X-Gateway-Nonce": nonce,
            "X-Gateway-Signature": f"v1={signature}",
        }
        return headers | ({"Idempotency-Key": idempotency_key} if idempotency_key else {})

    def send(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        idempotency_key: str = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one signed request on its own connection; ``headers`` override those of the signature."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=self.timeout)
        sent = self.sign(method, target, body, idempotency_key=idempotency_key)
        if body:
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, target, body, sent | (headers or {}))
            answer = connection.getresponse()
            return Answer(
                answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
            )
        finally:
            connection.close()

    def post(self, target: str, body: dict[str, Any], **options: Any) -> Answer:
        return self.send("POST", target, json.dumps(body).encode(), **options)

    def push_user(self, user: str, event: str, data: Any = None, **more: Any) -> Answer:
        return self.post(f"/emit/user/{quote(user, safe='')}", {"event": event, "data": data} | more)

    def push_room(self, room: str | list[str], event: str, data: Any = None, **more: Any) -> Answer:
        target = {"room": room} if isinstance(room, str) else {"rooms": room}
        return self.post("/emit/room", target | {"event": event, "data": data} | more)

    def broadcast(self, event: str, data: Any = None, **more: Any) -> Answer:
        return self.post("/broadcast", {"event": event, "data": data} | more)

    def presence(self, user: str) -> Any:
        answer = self.send("GET", f"/presence/{quote(user, safe='')}")
        assert answer.status == 200, answer
        return answer.body

    def revoke(self, jti: str, **body: Any) -> Answer:
        return self.post("/revoke", {"jti": jti} | body)

    def disconnect(self, user: str, **body: Any) -> Answer:
        return self.post(f"/disconnect/user/{quote(user, safe='')}", body)
