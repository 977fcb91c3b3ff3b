"""The verbs of the gateway, each in a module of its own.

arriving     a verified client comes in: hub, subscription, presence
reporting    a client is gone, or changed its carrier: tell the same, backwards
publishing   a backend pushes a message, or has a user let go
expiring     a token runs out
"""
