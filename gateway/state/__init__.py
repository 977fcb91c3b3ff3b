"""The two implementations of ``gateway.interfaces.State``; a process uses exactly one of them.

memory   one replica, without a server; what it does, the other must do, too (tests/contract)
redis    many replicas that share one Redis
"""
