"""Write docs/reference/benchmarks.md: all results, the machine, and how to repeat the measurement."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import TextWrapper
from typing import Any, Final

from benchmarks import (
    batches,
    client_events,
    comparison,
    curves,
    floors,
    notifications,
    scaling,
    tables,
)
from benchmarks.comparison import Comparison, Figures
from benchmarks.machine import ROOT
from benchmarks.plot import bars

PAGE = ROOT / "docs" / "reference" / "benchmarks.md"
PLOT = ROOT / "docs" / "reference" / "benchmarks.svg"
_LAST: Final = "Repeat it"
_WRAPPED: Final = TextWrapper(120, break_long_words=False, break_on_hyphens=False)
_ITEM: Final = TextWrapper(120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
_SECTION: Final = re.compile(r"^## (.+)\n", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """One run: when and where, how long, how many cores other programs used, and what each part found."""

    date: str
    machine: Mapping[str, str]
    minutes: float
    others: float
    found: Mapping[str, Any]


def write(run: Run) -> None:
    """Write the page and its SVG picture. The run has all parts."""
    PAGE.write_text(page(run), "utf-8")
    PLOT.write_text(bars(run.found["floors"]), "utf-8")


def write_parts(run: Run) -> None:
    """Replace the sections of the parts that were measured, or add them; the rest of the page stays as it is."""
    PAGE.write_text(with_parts(PAGE.read_text("utf-8"), run), "utf-8")
    if "floors" in run.found:
        PLOT.write_text(bars(run.found["floors"]), "utf-8")


def page(run: Run) -> str:
    """Return the whole page."""
    machine = "\n".join(_ITEM.fill(f"- {what}: {which}") for what, which in run.machine.items())
    others = f"Other programs used {run.others:.2f} of its cores on average during the measurement{_noise(run.others)}."
    sections = "\n".join(wrapped(section(run.found[part])) for part, section in SECTIONS.items())
    return f"""\
# Benchmarks

How fast the gateway is beside Node's Socket.IO, which floors hold, what each step costs, and how to measure it on your
machine.

`make bench` writes this page. It takes about {run.minutes:.0f} minutes and puts its own figures here. The machine, on
{run.date}:

{machine}

{_WRAPPED.fill(others)}

{sections}
## {_LAST}
{_repeat()}"""


def _repeat() -> str:
    """Return the contents of the last section."""
    parts = ", ".join(f"`{part}`" for part in SECTIONS)
    text = f"""\
The parts are {parts}. `REDIS_SERVER=redis-server` takes the Redis of the machine instead of the Valkey of the
development tools. An interpreter that was built without `--enable-optimizations` takes 15 to 25 % more CPU time.
"""
    return f"""
```sh
make bench                                     # everything; Linux, with Python and make; writes this page
PYTHON=/usr/bin/python3 make bench             # the same in a fresh clone, on the interpreter of the distribution
make bench ARGS="--rounds 1 --only floors"     # a part, on the terminal only
make bench ARGS="--only floors,curves --write" # some parts; replaces their sections of this page
python -m tests.support.upgrade_load --clients 200 --seconds 20   # 200 stock clients upgrade during pushes
```

{wrapped(text)}"""


def with_parts(text: str, run: Run) -> str:
    """Return the text of a page with the sections of the parts that were measured, and the last section.

    Raises: ValueError if the text is not such a page.
    """
    head, *rest = _SECTION.split(text)
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    if _LAST not in sections:
        raise ValueError(f"{PAGE} has no section {_LAST!r}: write the whole page first")
    del sections[_LAST]
    machine = "; ".join(f"{what}: {which}" for what, which in run.machine.items())
    sentence = (
        f"Measured by itself on {run.date}. {machine}. Other programs used {run.others:.2f} of the cores on average"
        f"{_noise(run.others)}."
    )
    for part, section in SECTIONS.items():
        if part in run.found:
            _, *made = _SECTION.split(wrapped(section(run.found[part])))
            contents = (f"{content.rstrip()}\n\n{_WRAPPED.fill(sentence)}\n\n" for content in made[1::2])
            sections = _placed(sections, dict(zip(made[::2], contents, strict=True)))
    sections[_LAST] = _repeat()
    return head + "".join(f"## {title}\n{content}" for title, content in sections.items())


def wrapped(text: str) -> str:
    """Return the text with its paragraphs and items broken anew: figures are longer or shorter than their names."""
    blocks = []
    for block in text.strip().split("\n\n"):
        if block.startswith("- "):
            items = (" ".join(item.split()) for item in re.split(r"\n(?=- )", block))
            blocks.append("\n".join(_ITEM.fill(item) for item in items))
        elif block.startswith(("#", "|", "!", "`")):
            blocks.append(block)
        else:
            blocks.append(_WRAPPED.fill(block))
    return "\n\n".join(blocks) + "\n"


def _placed(sections: dict[str, str], made: dict[str, str]) -> dict[str, str]:
    """Return the sections with those that were made in the place of the first one that they replace, or at the end."""
    kept = [title for title in sections if title not in made]
    at = next((number for number, title in enumerate(sections) if title in made), len(kept))
    titles = [*kept[:at], *made, *kept[at:]]
    return {title: made.get(title) or sections[title] for title in titles}


def _floors(found: Comparison) -> str:
    bare = found.load["bare sender"]
    return f"""\
## Beside Node's Socket.IO

{floors.summary(found)}

![The same figures as bars]({PLOT.name})

{tables.markdown(tables.evaluated(found))}

{_rounds(found)} In each round every server is started anew for each line, in turn. The
server has one core, the load all the others. The gateway verifies a JSON Web Token for each client, and signature,
nonce and schema of each push, and keeps each message for recovery. The peer (`benchmarks/socketio_peer.mjs`, Socket.IO
with its defaults behind two REST calls) checks and keeps nothing. Neither writes log lines for connections and
requests.

The ratio is that of the gateway's figure to the peer's, and the floor is what it has to be. A floor that does not
hold is printed as such. The CPU time is that of the server for one operation (a delivery, a push, a connection), all
its threads and the kernel's work for it included; on a busy machine it is more reliable than the other figures.

- Broadcast, one at a time: {comparison.BROADCASTS_ALONE} messages of 64 bytes to 1 000 WebSocket clients;
  the next one is sent when each client has this
  one. Latency: from sending the request until the message is in the client's socket.
- Broadcast, up to 48 at once: {comparison.BROADCASTS} messages, at most 48 not yet delivered. The gateway joins frames
  for one socket then, which makes the pause of the load (below) the longest part of its time: the CPU time says more
  about it. This line has no floor, and neither has the CPU time of Redis.
- REST pushes: {tables.number(comparison.EMITS)}, each to one user, from 32 keep-alive connections
  that each wait for their answer.
- Latency at 1 000 pushes/s: the same for 8 s, from sending the request until the message is in the client's socket.
- Connections: 9 000 WebSocket clients. Memory is that of the process (RSS) two seconds after the last one connected,
  minus that before the first. Then all of them are closed at once.
- Redis: two replicas share the core of the server, Redis has a core of the load. Backends push to one replica, the
  clients are connected to the other. The peer uses `@socket.io/redis-adapter`. CPU times are those of both replicas,
  without Redis; to connect, that of the one with the clients. The floor of connecting with Redis is about the gateway
  itself: at most 1.3 times what it takes without Redis.

## The load is not the bottleneck

The load is raw sockets in Python processes (`benchmarks/load`), standard library alone. It uses this share of its core:

{tables.markdown(tables.load(found))}

Where broadcasts follow one another the load works longer than the server, so the time between two of them does not
count, and latencies end when the kernel puts a message into the client's socket (`SO_TIMESTAMPNS`), not when the
load reads it. While up to 48 broadcasts are under way the load reads its sockets every 20 ms, so that one read brings
several messages. From a server that does nothing but call `send` for each client (`benchmarks/bare_sender.py`) it
receives {tables.number(bare["deliveries"])} deliveries/s with {bare["load_broadcast"]:.0%} of its core. That is about
what one process can send over the loopback of this machine; the gateway can be above it because it joins frames.
"""


def _batch(found: Comparison) -> str:
    return f"""\
## Many messages in one request

{tables.markdown(tables.comparison(found, batches.ROWS))}

{_rounds(found)} The first line is messages to single users out of 1 000: 100 in each request for the gateway
(`POST /batch`, 16 connections), one in each for the peer, which has no such call (32 connections). The second line is
messages to 100 users (`POST /emit/users`); the peer gets a list of rooms. The gateway verifies and checks the
same as for single pushes, and keeps every message for recovery. The CPU time is that of the server for each message of
the first line and each request of the second.

The load uses this share of its core:

{tables.markdown(tables.load(found, batches.LOAD))}
"""


def _curves(found: curves.Found) -> str:
    connections, sizes, rooms, addressed = (tables.markdown(tables.curve(each)) for each in found.curves())
    return f"""\
## Any number of connections

{curves.summary(found)}

CPU time of the gateway in µs for each step, by number of connections. Medians of three times 1 000 steps (3 000
pushes, and broadcasts to all that follow one another, {tables.number(scaling.DELIVERIES)} deliveries or more).
The number of rooms grows with the number of connections. Joining and leaving a room is `auth:refresh` with another
`role`, the verification of the new token included.

{connections}

The last line of this table and of those below is the shape of the column. Flat: no figure is more than
{curves.FLAT} times the first. Linear: the cost of one more is at the end at most {curves.STEEPER} times what it is
before. Anything else is "more than linear". By number of connections each step but a broadcast has to be flat, and by
rooms of a connection a push. A shape that is not as it has to be is in bold.

Of a broadcast the whole cost counts: it has to be linear in the number of clients.

## Any size and any number of rooms

The same for one of 1 000 connections, by size of the message: a push to one user, and a delivery of a broadcast.

{sizes}

By rooms of a connection ({curves.WITH_ROOMS} connections whose tokens name the same rooms): connecting has to read
and to check the names, and it and disconnecting have to change each room; a push to the user does not.

{rooms}

By rooms of one push (`POST /emit/room` with `rooms`, one client in each).

{addressed}

## Log lines and Redis

CPU time of the gateway in µs for each step, with log lines for connections and requests (`LOG_LEVEL=info`) and without
them, and with Redis. Medians of three times 1 000 connections and {tables.number(curves.EMITS)} pushes.

{tables.markdown(tables.kinds(found.kinds))}
"""


def _resume(found: dict[str, Figures]) -> str:
    return f"""\
## A client that reconnects

CPU time of the gateway process alone, in µs for each of 1 000 WebSocket clients: a new connection that can be resumed,
one that is resumed and missed nothing, and one that missed three messages. Medians of three rounds.

{tables.markdown(tables.kinds(found))}
"""


def _stall(found: dict[str, Figures]) -> str:
    return f"""\
## A client that stops reading

One of 1 000 clients is a process that gets SIGSTOP while all clients receive 30 messages of 4 kB a second, with
`PING_INTERVAL_SECONDS` and `PING_TIMEOUT_SECONDS` of 2 s. The table shows the latency of the other clients, the growth
of the gateway's memory, and when the stopped client is no longer present. Medians of three rounds.

{tables.markdown(tables.kinds(found))}
"""


def _latency(found: dict[str, Figures]) -> str:
    return f"""\
## Latency during a broadcast

How long others wait, in ms, during broadcasts to 12 000 clients: a client for an acknowledgement, and a probe for
`GET /health/live`, one request every 2 ms or so. Deliveries yield to the event loop every 5 ms; an acknowledgement
takes one or two turns of the event loop, a request two or three. The 12 000 clients are stopped meanwhile, so that the
probe has a core for itself. The last column is the total time for which other programs had the gateway's core; such
pauses are part of the longest waits.

{tables.markdown(tables.kinds(found))}
"""


def _compression(found: dict[str, Figures]) -> str:
    return f"""\
## Browsers that offer permessage-deflate

Every browser does. The gateway does not accept it by default. The table compares 3 000 clients that offer it with
3 000 that do not: CPU and memory of the gateway for each client and delivery. Medians of three rounds.

{tables.markdown(tables.kinds(found))}
"""


def _events(found: Comparison) -> str:
    return f"""\
## Events of clients

The peer has the same handlers in its own process (`benchmarks/socketio_peer.mjs`), the gateway has an event catalogue
(`benchmarks/events.yaml`). 1 000 clients, memory state, one core for the server. The gateway checks the arguments of
each event with a JSON Schema, and whether the sender is in the room; the peer checks nothing.

{tables.markdown(tables.comparison(found, client_events.ROWS))}

{_rounds(found)}

- Messages to rooms: 20 000 of 64 characters from 1 000 clients in 100 rooms, each to all 10 clients of the room, at
  most 500 not yet delivered. Every delivery is counted.
- Acknowledgements: 40 000 events that the server itself acknowledges, at most 200 at once.
- Webhook calls: 8 000 events whose acknowledgement is the answer of a webhook, at most 48 at once. The webhook
  (`benchmarks/webhook_receiver.py`) answers at once and shares a core with the load. The gateway signs each request,
  the peer sends it unsigned with `fetch`, which keeps its connections.
- Latency: from the event to its acknowledgement, at 500 events/s for 4 s.
- Validation: one value of three members, CPU time in the gateway's process alone.

The load uses this share of its core:

{tables.markdown(tables.load(found, client_events.LOAD))}
"""


def _notify(found: notifications.Found) -> str:
    return f"""\
## Notifications and presence events

1 000 clients emit {tables.number(notifications.NOTIFICATIONS)} events with `notify`, at most \
{notifications.WINDOW} of them without their acknowledgement. The gateway has one core; the webhook
(`benchmarks/webhook_receiver.py`), the load and Redis share another one. Accepted: until the last acknowledgement.
Delivered: until the last event arrived, each of them once.

{tables.markdown(tables.kinds(found.delivered))}

CPU time of the gateway in µs for a connection, without presence events and with `presence: {{notify: app}}`: where the
user stays online because the page reloads, and where connecting and leaving both are changes that the webhook gets.
Medians of three times 1 000 connections.

{tables.markdown(tables.kinds(found.connections))}
"""


SECTIONS: Final[Mapping[str, Callable[[Any], str]]] = {
    "floors": _floors,
    "curves": _curves,
    "resume": _resume,
    "stall": _stall,
    "latency": _latency,
    "compression": _compression,
    "batch": _batch,
    "events": _events,
    "notify": _notify,
}
"""The parts of a measurement in the order of the page, and what writes the sections of each."""


def _rounds(found: Comparison) -> str:
    return "One round." if found.rounds == 1 else f"Medians of {found.rounds} rounds."


def _noise(others: float) -> str:
    return (
        ""
        if others < 0.05
        else ": compare the ratios rather than the figures, and repeat it on an idle machine"
    )
