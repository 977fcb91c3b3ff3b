"""The load: clients and backends in processes of their own, standard library alone.

frames     bytes that clients write, and where a received frame ends
tally      counts deliveries and latencies
clients    raw sockets that speak Engine.IO and Socket.IO
backends   keep-alive connections that replay requests prepared before
worker     the program: reads orders from stdin, executes them on one epoll, writes results to stdout
crowd      the parent side: starts workers, pins them to cores, spreads clients over them
"""
