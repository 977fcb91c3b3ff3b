"""Measure the gateway on this machine, beside Node's Socket.IO: ``make bench``.

machine      the cores, the CPU time of other programs, the description of the machine
servers      the servers under test, each on one core
load/        the load generator: clients and backends, on the other cores
floors       the ratios to Socket.IO that must hold: rounds, and which of them do; the load against a bare sender
comparison   figures of two servers, and the scenarios of the floors with one process
replicated   the scenarios of the floors with two replicas and Redis
curves       the cost of each step by connections, bytes and rooms; log lines and Redis
scaling      the curve of 1 000 to 18 000 connections
resumption   the cost of a resumed connection, beside a new one
stalled_client      a client that stops reading
broadcast_latency   latency during broadcasts to 12 000 clients
client_events       events of clients beside the same handlers in Node: relays, acknowledgements, webhook calls
notifications  notifications from the client to the webhook, and the cost of presence events
compression  browsers that offer permessage-deflate
sizing       memory and CPU time of Redis, for docs/how-to/scale.md: ``python -m benchmarks.sizing``
replicas     the Redis state of several replicas in one process, for ``sizing``
tables       figures as text and Markdown
plot         figures as an SVG picture
document     docs/reference/benchmarks.md

``socketio_peer.mjs`` and ``bare_sender.py`` are the servers that the gateway is compared with. ``webhook_receiver.py``
is the backend that both call, ``events.yaml`` the event catalogue of the gateway.
"""
