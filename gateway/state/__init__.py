"""The two states that satisfy ``gateway.interfaces.State``; one of them is chosen whole.

memory   for one replica; the specification
redis    for replicas that share a Redis
"""
