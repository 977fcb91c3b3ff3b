"""Measure how much longer a push with ``ack: first`` takes than a plain one: ``python -m tests.load.acks``.

One replica in a process of its own, in memory and with Redis; one stock client on a WebSocket, which acknowledges each
event at once; one backend with one connection, which sends pushes of both kinds in turn. Prints the median and the 99th
percentile of the time until the response, and the median of what ``seconds`` of the acknowledgements say: the part of
the client and the network. With a number, so many pushes of each kind. Exit status 1 if ``first`` adds more than 2 ms.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer

PUSHES = int(sys.argv[1]) if sys.argv[1:] else 2_000
WARM_UP = 100
ADDED_SECONDS = 0.002
COLUMNS = {
    "plain 50 %": 12,
    "99 %": 8,
    "first 50 %": 12,
    "first 99 %": 12,
    "added 50 %": 12,
    "client 50 %": 13,
}
USER = "alice"
PLAIN: dict[str, Any] = {"event": "note", "data": {"id": 1, "text": "x" * 200}}
FIRST = PLAIN | {"ack": {"want": "first", "timeout_seconds": 25}}


class Times(NamedTuple):
    """Seconds until the responses of one kind of push, and those that acknowledgements name."""

    responses: list[float]
    clients: list[float]


def main() -> None:
    """Run it and print the table."""
    server = RedisServer()
    print(f"{'(ms)':8}" + "".join(name.rjust(width) for name, width in COLUMNS.items()))
    try:
        added = [_measure("memory"), _measure("redis", redis_url=server.url)]
    finally:
        server.stop()
    sys.exit(1 if max(added) > ADDED_SECONDS else 0)


def _measure(name: str, **settings: Any) -> float:
    """Print the row of one state; return what ``first`` adds to the median."""
    gateway, clients = GatewayProcess(**settings), NodeClients()
    try:
        client = clients.open(gateway.url, token=gateway.token(USER), transports=["websocket"])
        client.connected().answer_all({"ok": True})
        plain, first = _push_in_turn(gateway)
        assert len(client.events("note")) == 2 * (PUSHES + WARM_UP)
    finally:
        clients.stop()
        gateway.stop()
    added = statistics.median(first.responses) - statistics.median(plain.responses)
    figures = [
        *[figure for times in (plain, first) for figure in (_at(times, 0.5), _at(times, 0.99))],
        added,
        statistics.median(first.clients),
    ]
    texts = [f"{figure * 1000:.2f}" for figure in figures]
    print(f"{name:8}" + "".join(map(str.rjust, texts, COLUMNS.values())))
    return added


def _push_in_turn(gateway: GatewayProcess) -> tuple[Times, Times]:
    address = urlsplit(gateway.ingest_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port)
    plain, first = Times([], []), Times([], [])
    for number in range(PUSHES + WARM_UP):
        for body, times in ((PLAIN, plain), (FIRST, first)):
            seconds, answer = _push(gateway, connection, body)
            if number < WARM_UP:
                continue
            times.responses.append(seconds)
            times.clients.extend(ack["seconds"] for ack in answer.get("acks", ()))
    connection.close()
    assert len(first.clients) == PUSHES
    return plain, first


def _push(
    gateway: GatewayProcess, connection: http.client.HTTPConnection, body: dict[str, Any]
) -> tuple[float, Any]:
    target, text = f"/emit/user/{USER}", json.dumps(body).encode()
    headers = gateway.backend.sign("POST", target, text) | {"Content-Type": "application/json"}
    began = time.perf_counter()
    connection.request("POST", target, text, headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    seconds = time.perf_counter() - began
    assert (response.status, answer.get("complete", True)) == (200, True), answer
    return seconds, answer


def _at(times: Times, part: float) -> float:
    return sorted(times.responses)[int(len(times.responses) * part)]


if __name__ == "__main__":
    main()
