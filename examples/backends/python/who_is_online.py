#!/usr/bin/env python3
"""Know who is online, and store each notified event once: verify, store, then answer. Standard library only."""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

USAGE = "environment: WEBHOOK_SECRET (whsec_…); optional PORT, DATA"
TOLERANCE_SECONDS = 300
MAX_BODY_BYTES = 1 << 20
TABLES = """
CREATE TABLE IF NOT EXISTS presence (user TEXT NOT NULL PRIMARY KEY, online INTEGER, version INTEGER, since TEXT);
CREATE TABLE IF NOT EXISTS sequences (user TEXT NOT NULL PRIMARY KEY, sequence INTEGER);
CREATE TABLE IF NOT EXISTS events (id TEXT NOT NULL PRIMARY KEY, user TEXT, event TEXT, args TEXT);
"""
# Only a version, or sequence, above that of the user changes the row: what is late, or repeated, changes nothing.
SET_PRESENCE = """
INSERT INTO presence VALUES (:user, :online, :version, :since) ON CONFLICT (user) DO UPDATE
SET online = excluded.online, version = excluded.version, since = excluded.since
WHERE excluded.version > presence.version"""
SET_SEQUENCE = """
INSERT INTO sequences VALUES (:user, :sequence) ON CONFLICT (user) DO UPDATE
SET sequence = excluded.sequence WHERE excluded.sequence > sequences.sequence"""

KEY = base64.b64decode(os.environ.get("WEBHOOK_SECRET", "").removeprefix("whsec_"))
lock = threading.Lock()


def is_authentic(message_id: str, timestamp: str, signatures: str, body: bytes) -> bool:
    """Whether one of the signatures fits the raw body, and the time is within the tolerance."""
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    digest = hmac.new(KEY, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    return any(hmac.compare_digest(expected, each.encode()) for each in signatures.split())


def store(database: sqlite3.Connection, message_id: str, body: bytes) -> list[str]:
    """Store a request, in one transaction; return what was new, for the log."""
    message = json.loads(body)
    events = message["data"] if message["type"] == "batch" else [{**message, "id": message_id}]
    with lock, database:
        new = [store_one(database, each) for each in events]
    return [line for line in new if line is not None]


def store_one(database: sqlite3.Connection, each: dict) -> str | None:
    """Store one event, unless it is known or not above the last one of its user; your application begins here."""
    data, kind = each["data"], each["type"]
    if kind in ("user.online", "user.offline"):
        user, version = data["user"], int(data["version"])
        row = {"user": user, "online": kind == "user.online", "version": version, "since": data["since"]}
        return f"{kind} {user} {version}" if database.execute(SET_PRESENCE, row).rowcount else None
    if kind != "client.event":
        return None  # webhook.test, and types of later releases
    user, sequence = data["connection"]["user"], int(data["sequence"])
    event = (each["id"], user, data["event"], json.dumps(data["args"]))
    if not database.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)", event).rowcount:
        return None
    if not database.execute(SET_SEQUENCE, {"user": user, "sequence": sequence}).rowcount:
        database.execute("DELETE FROM events WHERE id = ?", (each["id"],))
        return None
    return f"event {user} {sequence} {each['id']}"


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Print who is online. Keep this route away from the network in your application."""
        with lock:
            rows = DATABASE.execute("SELECT user FROM presence WHERE online ORDER BY user").fetchall()
        self.send(200, {"online": [user for (user,) in rows]})

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
        try:
            for line in store(DATABASE, message_id, body):
                print(line, flush=True)
        except (ValueError, KeyError, TypeError, sqlite3.IntegrityError):
            # 400: this event is bad and becomes a dead letter. An error of the database ends the request without an
            # answer, so the gateway sends it again.
            return self.send(400, {"code": "invalid_payload", "message": "The event has a wrong form."})
        return self.send(204, None)

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
    path = Path(os.environ.get("DATA") or ".") / "who-is-online.db"
    DATABASE = sqlite3.connect(path, check_same_thread=False)
    DATABASE.executescript(TABLES)
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT") or 3000)), Receiver).serve_forever()
