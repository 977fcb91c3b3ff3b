"""The state of a gateway with several replicas: one Redis, or Valkey, that they share.

    state        RedisState: builds everything below and runs it
    broker       appends entries, subscribes addresses, reads the history
    presence     who is connected, and the records of connections
    sessions     recovery sessions, and their records
    guards       nonces and idempotency keys, rate limits, revocations
    membership   the lease of this replica, and the reaping of dead ones
    liveness     pub/sub probes and the status that follows from them
    log_reader   delivers entries in order, each once; reads the log after an interruption
    cursor       how far this replica has read, and what it has already delivered
    subscriber   the connection for channels, and the buffer of what it receives
    commands     the connection for scripts: pipelined, with deadlines and retries
    pending      the commands without an answer
    connection   opens connections: address, Sentinel, TLS, checks of the server
    scripts      assembles the Lua scripts (lua/*.lua) with names and limits
    codec        the bytes of records and frames
    redis_keys   the names of all keys and channels
    errors       was a command executed or not? and what Redis rejects now
    metrics      RedisMetrics: what is counted on the way to Redis and back

docs/explanation/architecture.md, "Shared state in Redis", gives the reasons.
"""

from gateway.state.redis.metrics import RedisMetrics
from gateway.state.redis.state import RedisState

__all__ = ["RedisMetrics", "RedisState"]
