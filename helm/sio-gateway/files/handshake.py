"""Shake hands as a client would (Engine.IO 4): arguments are host, port, path and transport."""

import http.client
import sys

host, port, path, transport = sys.argv[1:]
upgrade = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "aGVsbS10ZXN0LWhhbmRzaA==",
}
door = http.client.HTTPConnection(host, int(port), timeout=10)
target = f"{path}?EIO=4&transport={transport}"
door.request("GET", target, headers=upgrade if transport == "websocket" else {})
answer = door.getresponse()
expected = 101 if transport == "websocket" else 200
print(f"GET http://{host}:{port}{target}: {answer.status} {answer.reason}")
sys.exit(answer.status != expected)
