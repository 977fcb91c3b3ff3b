#!/usr/bin/env python3
"""Push one event through the gateway with a signed HTTP request. Standard library only."""

import hashlib
import hmac
import http.client
import json
import os
import secrets
import sys
import time
from urllib.parse import quote, urlsplit

USAGE = """\
usage: push.py (user <id> | room <room> | broadcast) <event> <json>
environment: GATEWAY_KEY, GATEWAY_SECRET; optional GATEWAY_URL, IDEMPOTENCY_KEY"""

KEY, SECRET = os.environ.get("GATEWAY_KEY", ""), os.environ.get("GATEWAY_SECRET", "")
BASE = urlsplit(os.environ.get("GATEWAY_URL") or "http://127.0.0.1:8080")


def signed_headers(target: str, body: bytes, idempotency_key: str) -> dict[str, str]:
    """The headers of one attempt, with a new timestamp and a new nonce."""
    timestamp, nonce = str(int(time.time())), secrets.token_hex(16)
    body_sha256 = hashlib.sha256(body).hexdigest()
    text = f"v1\n{KEY}\nPOST\n{target}\n{timestamp}\n{nonce}\n{idempotency_key}\n{body_sha256}"
    signature = hmac.new(SECRET.encode(), text.encode(), "sha256").hexdigest()
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": idempotency_key,
        "X-Gateway-Key": KEY,
        "X-Gateway-Timestamp": timestamp,
        "X-Gateway-Nonce": nonce,
        "X-Gateway-Signature": f"v1={signature}",
    }


def post(target: str, body: bytes, idempotency_key: str) -> tuple[int, str, str]:
    """Make one attempt. Returns status, Retry-After and body of the response; status 0 means no response."""
    https = BASE.scheme == "https"
    connect = http.client.HTTPSConnection if https else http.client.HTTPConnection
    connection = connect(BASE.netloc, timeout=10)
    try:  # request() sends the target unchanged
        connection.request("POST", target, body, signed_headers(target, body, idempotency_key))
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Retry-After", ""), answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, "", str(error)
    finally:
        connection.close()


def main() -> int:
    match sys.argv[1:] if KEY and SECRET else []:
        case ["user", user, event, data]:
            path, room = "/emit/user/" + quote(user, safe=""), ""
        case ["room", room, event, data]:
            path, room = "/emit/room", f'"room":{json.dumps(room)},'
        case ["broadcast", event, data]:
            path, room = "/broadcast", ""
        case _:
            print(USAGE, file=sys.stderr)
            return 2
    body = f'{{{room}"event":{json.dumps(event)},"data":{data}}}'.encode()  # data as written
    target = BASE.path.rstrip("/") + path
    # One key for all attempts: the event is delivered once, whatever the first attempt did.
    idempotency_key = os.environ.get("IDEMPOTENCY_KEY") or secrets.token_hex(16)
    status, retry_after, answer = post(target, body, idempotency_key)
    for _ in range(2):
        if status not in (0, 503):
            break
        time.sleep(int(retry_after) if retry_after.isdecimal() else 1)
        status, retry_after, answer = post(target, body, idempotency_key)
    if 200 <= status < 300:
        print(answer)
        return 0
    print(status, answer, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
