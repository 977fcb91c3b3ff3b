"""Measures the gateway on this machine, beside Node's Socket.IO: ``make bench``.

machine     the cores, how busy others keep them, what the machine is
servers     the servers under test, each on one core
load/       clients and backends, on the other cores
comparing   the gateway beside Socket.IO: rounds, medians, ratios; and the load beside a bare sender
scaling     what each step costs at 1 000 and at 18 000 connections
stopping    a client that stops reading
straining   a broadcast to 12 000, browsers that offer compression
tables      figures as text and Markdown
plot        figures as a picture
document    docs/explanation/benchmarks.md

``socketio_peer.mjs`` and ``bare_sender.py`` are what it is measured beside.
"""
