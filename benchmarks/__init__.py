"""Measure the gateway on this machine, beside Node's Socket.IO: ``make bench``.

machine      the cores, the CPU time of other programs, the description of the machine
servers      the servers under test, each on one core
load/        clients and backends, on the other cores
comparing    the gateway beside Socket.IO: rounds, medians, ratios; and the load against a bare sender
scaling      the cost of each step at 1 000 to 18 000 connections
returning    the cost of a resumed connection, beside a new one
stopping     a client that stops reading
straining    latency during broadcasts to 12 000 clients; browsers that offer compression
sizing       what Redis spends, for docs/how-to/scale.md: ``python -m benchmarks.sizing``
replicas     the Redis state of several replicas in one process, for ``sizing``
tables       figures as text and Markdown
plot         figures as an SVG picture
document     docs/explanation/benchmarks.md

``socketio_peer.mjs`` and ``bare_sender.py`` are the servers that the gateway is compared with.
"""
