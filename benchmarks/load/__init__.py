"""The load: clients and backends in processes of their own, standard library alone.

frames     bytes that clients write, and where a received frame ends
tally      what arrived, and how long it took
clients    raw sockets that speak Engine.IO and Socket.IO
backends   keep-alive connections that replay requests prepared before
worker     the program: takes orders on stdin, does them on one epoll, answers on stdout
crowd      the other side of that: starts workers, pins them, shares clients out among them
"""
