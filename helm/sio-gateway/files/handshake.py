"""Make an Engine.IO 4 handshake, as a client does. Arguments: host, port, path and transport."""

import http.client
import sys

host, port, path, transport = sys.argv[1:]
upgrade = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "aGVsbS10ZXN0LWhhbmRzaA==",
}
connection = http.client.HTTPConnection(host, int(port), timeout=10)
target = f"{path}?EIO=4&transport={transport}"
connection.request("GET", target, headers=upgrade if transport == "websocket" else {})
response = connection.getresponse()
expected = 101 if transport == "websocket" else 200
print(f"GET http://{host}:{port}{target}: {response.status} {response.reason}")
sys.exit(response.status != expected)
