"""The state of a gateway with many replicas: one Redis, or Valkey, that they share.

    state        puts it together             location      where Redis is
    server       connections to it            errors        did it happen or not?
    commands     calls scripts, pipelined     questions     who waits for which answer
    channels     hears channels               inbox         what came and was not handed over yet
    attempts     connecting again and again   racing        tasks that end together
    listening    hands over and catches up    seen          how far that has got
    broker       appends, subscribes, reads   records       the bytes of entries and frames
    presence     who is connected             registered    the bytes of connections and sessions
    sessions     who may come back            leases        which replicas live; cleaning up after others
    claims       one-time uses                rates, revocations
    hearing      deaf or away                 refusing      what Redis refuses although it answers
    canaries     saying something to oneself  scripting     the scripts and their limits (scripts/*.lua)
    keys         every name in Redis

docs/explanation/architecture.md tells the whole of it.
"""

from gateway.state.redis.metrics import RedisMetrics
from gateway.state.redis.state import RedisState

__all__ = ["RedisMetrics", "RedisState"]
