"""Print a token for a user: GATEWAY_JWT_SECRET=… python3 token_for.py alice"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def gateway_token(sub: str, **claims: object) -> str:
    """Return a token for ``sub``, which is valid for an hour; claims such as ``orgId=7`` grant rooms."""
    secret = os.environ.get("GATEWAY_JWT_SECRET", "")
    if not secret:
        raise RuntimeError("GATEWAY_JWT_SECRET is not set")
    now = int(time.time())
    payload = json.dumps({"sub": sub, "iat": now, "exp": now + 3600, **claims})
    text = base64url(b'{"alg":"HS256","typ":"JWT"}') + b"." + base64url(payload.encode())
    return (text + b"." + base64url(hmac.digest(secret.encode(), text, hashlib.sha256))).decode()


if __name__ == "__main__":
    print(gateway_token(sys.argv[1]))
