"""Batches of messages over several replicas: who gets which message, and what is left when a process dies.

audiences  random rooms, all and except, beside an oracle of plain sets; some clients are away and recover
kills      a replica or Redis is killed while it accepts a batch
"""
