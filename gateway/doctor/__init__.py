"""``sio-gateway doctor``: looks at the Redis and the host that a gateway is to work with, and changes nothing.

    findings     what a check says: a stable name, a level, what is, what to do about it
    facts        what is known before anybody judges it
    gathering    asks Redis; the only part that waits for anything
    records      what is kept under the prefix: can this release read it?
    rights       what the user of Redis must be allowed to do
    server       checks of what Redis is: version, mode, role, eviction, records
    room         checks of how much it holds: memory, connections, output buffers
    safety       checks of what a crash loses: persistence, replication, Sentinels
    timing       checks of clock and round trip
    host         checks of the machine that the gateway runs on
    examination  all checks, in the order of the report

Checks are functions from facts to findings and wait for nothing.
"""

from gateway.doctor.findings import Finding, Level, worst
from gateway.doctor.runner import run_checks

__all__ = ["Finding", "Level", "run_checks", "worst"]
