"""Write docs/explanation/benchmarks.md: all results, the machine, and how to repeat the measurement."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import client_events, tables
from benchmarks.comparison import Comparison, Figures
from benchmarks.machine import ROOT
from benchmarks.plot import bars

PAGE = ROOT / "docs" / "explanation" / "benchmarks.md"
PLOT = ROOT / "docs" / "explanation" / "benchmarks.svg"


@dataclass(frozen=True)
class Results:
    """The results of one run of all parts."""

    date: str
    machine: dict[str, str]
    minutes: float
    others: float
    comparison: Comparison
    scale: dict[int, Figures]
    resumed: dict[str, Figures]
    stalled: dict[str, Figures]
    latency: dict[str, Figures]
    compression: dict[str, Figures]
    events: Comparison


def write(found: Results) -> None:
    """Write the page and its SVG picture."""
    PAGE.write_text(_page(found), "utf-8")
    PLOT.write_text(bars(found.comparison), "utf-8")


def _page(found: Results) -> str:
    machine = "\n".join(f"- {what}: {which}" for what, which in found.machine.items())
    bare = found.comparison.load["bare sender"]
    return f"""\
# Benchmarks

How fast the gateway is beside Node's Socket.IO, what each step costs, and how to measure it on your machine.

`make bench` writes this page. It takes about {found.minutes:.0f} minutes and puts its own figures here. The machine, on
{found.date}:

{machine}

Other programs used {found.others:.2f} of its cores on average during the measurement{_noise(found.others)}.

## Beside Node's Socket.IO

![The same figures as bars]({PLOT.name})

{tables.markdown(tables.comparison(found.comparison))}

Medians of {found.comparison.rounds} rounds. In each round every server is started anew for each line, in turn. The
server has one core, the load all the others. The gateway verifies a JSON Web Token for each client, and signature,
nonce and schema of each push. The peer (`benchmarks/socketio_peer.mjs`, Socket.IO with its defaults behind two REST
calls) checks nothing. Neither writes log lines for connections and requests. On a busy machine the lines by CPU time
are the most reliable.

- Broadcast: 300 messages of 100 bytes to 1 000 WebSocket clients, at most 48 not yet delivered.
- REST pushes: 12 000, each to one user, from 32 keep-alive connections that each wait for their answer.
- Latency: from sending the request to the message on the client's socket, at 1 000 pushes/s for 8 s.
- Connections: 9 000 WebSocket clients. Memory is that of the process (RSS) two seconds after the last one connected,
  minus that before the first. Then all of them are closed at once.

## The load is not the bottleneck

The load is raw sockets in Python processes (`benchmarks/load`), standard library alone. It uses this share of its core:

{tables.markdown(tables.load(found.comparison))}

From a server that does nothing but call `send` for each client (`benchmarks/bare_sender.py`) the load receives
{tables.number(bare["deliveries"])} deliveries/s with {bare["load_broadcast"]:.0%} of its core. That is about what one
process can send over the loopback of this machine.

## Any number of connections

CPU time of the gateway in µs for each step, by number of connections. Medians of three times 1 000 steps (3 000
pushes). The number of rooms grows with the number of connections. Joining and leaving a room is `auth:refresh` with
another `role`, the verification of the new token included.

{tables.markdown(tables.scale(found.scale))}

## A client that reconnects

CPU time of the gateway process alone, in µs for each of 1 000 WebSocket clients: a new connection that can be resumed,
one that is resumed and missed nothing, and one that missed three messages. Medians of three rounds.

{tables.markdown(tables.kinds(found.resumed))}

## A client that stops reading

One of 1 000 clients is a process that gets SIGSTOP while all clients receive 30 messages of 4 kB a second, with
`PING_INTERVAL_SECONDS` and `PING_TIMEOUT_SECONDS` of 2 s. The table shows the latency of the other clients, the growth
of the gateway's memory, and when the stopped client is no longer present. Medians of three rounds.

{tables.markdown(tables.kinds(found.stalled))}

## Latency during a broadcast

How long others wait, in ms, during broadcasts to 12 000 clients: a client for an acknowledgement, and a probe for
`GET /health/live`, one request every 2 ms or so. Deliveries yield to the event loop every 5 ms; an acknowledgement
takes one or two turns of the event loop, a request two or three. The 12 000 clients are stopped meanwhile, so that the
probe has a core for itself. The last column is the total time for which other programs had the gateway's core; such
pauses are part of the longest waits.

{tables.markdown(tables.kinds(found.latency))}

## Browsers that offer permessage-deflate

Every browser does. The gateway does not accept it by default. The table compares 3 000 clients that offer it with
3 000 that do not: CPU and memory of the gateway for each client and delivery. Medians of three rounds.

{tables.markdown(tables.kinds(found.compression))}

## Events of clients

The peer has the same handlers in its own process (`benchmarks/socketio_peer.mjs`), the gateway has an event catalogue
(`benchmarks/events.yaml`). 1 000 clients, memory state, one core for the server. The gateway checks the arguments of
each event with a JSON Schema, and whether the sender is in the room; the peer checks nothing.

{tables.markdown(tables.comparison(found.events, client_events.ROWS))}

Medians of {found.events.rounds} rounds.

- Messages to rooms: 20 000 of 64 characters from 1 000 clients in 100 rooms, each to all 10 clients of the room, at
  most 500 not yet delivered. Every delivery is counted.
- Acknowledgements: 40 000 events that the server itself acknowledges, at most 200 at once.
- Webhook calls: 8 000 events whose acknowledgement is the answer of a webhook, at most 48 at once. The webhook
  (`benchmarks/webhook_receiver.py`) answers at once and shares a core with the load. The gateway signs each request,
  the peer sends it unsigned with `fetch`, which keeps its connections.
- Latency: from the event to its acknowledgement, at 500 events/s for 4 s.
- Validation: one value of three members, CPU time in the gateway's process alone.

The load uses this share of its core:

{tables.markdown(tables.load(found.events, client_events.LOAD))}

## Repeat it

```sh
make bench                                # everything; Linux, with Python and make; writes this page
make bench ARGS="--rounds 1 --only scale" # a part, on the terminal only
python -m tests.support.upgrade_load --clients 200 --seconds 20   # 200 stock clients upgrade during pushes
```
"""


def _noise(others: float) -> str:
    return (
        ""
        if others < 0.05
        else ": compare the ratios rather than the figures, and repeat it on an idle machine"
    )
