"""The two implementations of ``gateway.interfaces.State``; one of them is chosen whole.

memory   one replica, without a server; the specification
redis    many replicas that share one Redis
"""
