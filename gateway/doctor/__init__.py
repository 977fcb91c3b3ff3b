"""``sio-gateway doctor``: check the Redis, the host and the webhooks that a gateway will use, and change nothing.

findings    the result of a check: a stable name, a level, a description and a remedy
facts       what is known about Redis and the host before the checks
probe       queries to Redis
rights      the commands that the user of Redis must be allowed to execute
server      checks of the server: version, mode, role, eviction, records, clock, round trip
capacity    checks of memory, connections and output buffers
queues      checks of the queues of webhooks
durability  checks of data loss in a crash: persistence, replication, Sentinels
host        checks of the machine that runs the gateway
webhooks    checks of webhooks
runner      all checks, in the order of the report

A check of Redis or the host is a function from facts to a finding, without I/O.
"""

from gateway.doctor.findings import Finding, Level, worst
from gateway.doctor.runner import run_checks

__all__ = ["Finding", "Level", "run_checks", "worst"]
