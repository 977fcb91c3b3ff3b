#!/usr/bin/env python3
"""Receive client events from the gateway: verify each webhook request and answer it. Standard library only."""

import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USAGE = "environment: WEBHOOK_SECRET (whsec_…); optional PORT"
TOLERANCE_SECONDS = 300
MAX_BODY_BYTES = 1 << 20
REMEMBERED = 10_000  # more than the requests of two times the tolerance

KEY = base64.b64decode(os.environ.get("WEBHOOK_SECRET", "").removeprefix("whsec_"))
answers: OrderedDict[str, tuple[int, object]] = OrderedDict()  # by webhook-id: a repeat has no second effect
lock = threading.Lock()


def is_authentic(message_id: str, timestamp: str, signatures: str, body: bytes) -> bool:
    """Whether one of the signatures fits the raw body, and the time is within the tolerance."""
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    digest = hmac.new(KEY, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    return any(hmac.compare_digest(expected, each.encode()) for each in signatures.split())


def answer_to(event: dict) -> tuple[int, object]:
    """Status and JSON answer for an event; your application begins here."""
    if event["type"] != "client.event":
        return 204, None  # webhook.test, and types of later releases
    data = event["data"]
    if data["event"] != "notification:mark_read":
        return 404, {"code": "unknown_event", "message": "This backend does not know the event."}
    notification = data["args"][0]["notificationId"]
    if not isinstance(notification, str):
        raise TypeError("notificationId is not a string")
    if notification.startswith("x"):
        return 403, {"code": "not_yours", "message": "This notification belongs to another user."}
    print("read", notification, "by", data["connection"]["user"], flush=True)
    read = {"event": "notification:read", "data": {"notificationId": notification, "success": True}}
    return 200, {"emit": [read], "ack": {"success": True}}


def answer_once(message_id: str, body: bytes) -> tuple[int, object]:
    """The answer to a verified request; a repeat of an id gets the first answer."""
    with lock:
        if message_id not in answers:
            try:
                answers[message_id] = answer_to(json.loads(body))
            except (ValueError, KeyError, IndexError, TypeError):
                answers[message_id] = (
                    400,
                    {"code": "invalid_payload", "message": "The event has a wrong form."},
                )
            if len(answers) > REMEMBERED:
                answers.popitem(last=False)
        return answers[message_id]


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True  # the body is still unread
            return self.send(413, {"message": "The body is too large, or its length is unknown."})
        body = self.rfile.read(int(length))
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        message_id, timestamp, signatures = (self.headers.get(name, "") for name in names)
        if not message_id or not is_authentic(message_id, timestamp, signatures, body):
            return self.send(401, {"code": "bad_signature", "message": "The signature is not valid."})
        return self.send(*answer_once(message_id, body))

    def send(self, status: int, answer: object) -> None:
        content = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing: requests contain data of users."""


if __name__ == "__main__":
    if not KEY:
        sys.exit(USAGE)
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT") or 3000)), Receiver).serve_forever()
