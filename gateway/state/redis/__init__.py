"""The state of a gateway with several replicas: one Redis, or Valkey, that they share.

    state        RedisState: builds everything below and runs it
    limits       RedisLimits: what Redis holds at most and for how long
    broker       appends entries, subscribes addresses, reads the history
    presence     the connections of each user, and their records
    presence_events  changes of users between online and offline, and lists of connections
    listings     lists of users, rooms and connections, and socket data
    sessions     recovery sessions, and their records
    disconnects   connections that are gone, many in one script; new ones, each in one script
    connection_rooms  changes of rooms of many connections in one script
    guards       nonces and idempotency keys, rate limits, revocations
    membership   the lease of this replica, and the reaping of replicas whose lease has expired
    liveness     pub/sub probes and the status that follows from them
    log_reader   delivers entries in order, each once; reads the log after an interruption
    logged_messages  reads and erases the messages of one address in the log
    losses       finds entries that Redis lost, and marks the loss in the log for every replica
    queues       the queues of notifications and their dead letters; which partitions this replica owns
    cursor       how far this replica has read, and what it has already delivered
    subscriber   the connection for channels, and the buffer of what it receives
    commands     calls of scripts, with deadlines and retries
    command_connection  the connection for them: pipelined
    pending      the commands without an answer, and calls without a task
    reply_reader  passes on what Redis sends in the step that receives it
    connection   opens connections: address, Sentinel, TLS, checks of the server
    scripts      assembles the Lua scripts (lua/*.lua) with names and limits
    offline_queue  messages that are kept for users until they are received
    replies      replies of replicas to entries
    codec        records and frames as one release reads and writes them
    records      the bytes of records
    redis_keys   the names of all keys and channels
    errors       errors that say whether a command was executed, and the current rejections
    metrics      the metrics of commands, connections, channels and resyncs; the same without Redis

docs/explanation/architecture.md, "Shared state in Redis", gives the reasons.
"""

from gateway.state.redis.metrics import create_metrics_without_redis
from gateway.state.redis.state import RedisState

__all__ = ["RedisState", "create_metrics_without_redis"]
