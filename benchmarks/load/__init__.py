"""The load generator: clients and backends in processes of their own, standard library alone.

frames         bytes that clients write, and where a received frame ends
deliveries     counts deliveries and records latencies
clients        raw sockets that speak Engine.IO and Socket.IO
backends       keep-alive connections that send requests prepared before
client_events  clients that emit events
worker         the program of one process: reads commands, executes them on one epoll, writes results
generator      the parent side: starts workers, pins them to cores, divides clients among them
"""
