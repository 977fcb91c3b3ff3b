"""A standalone push gateway: backends push with one signed request, clients of Socket.IO receive.

The packages, from the top; imports go down only (docs/explanation/architecture.md):

__main__          ``python -m gateway``
cli               the command line: serve, token, emit, presence, listen, check-config, doctor, webhooks and more
process           the event loop, the signals and the exit status of ``serve``
rlimit            raises the soft limit of open files
signals           keeps signals that are received during the imports
doctor            checks the Redis, the host and the webhooks of a deployment; changes nothing
runtime           the composition root: builds the components, starts and stops them
settings          the configuration, read once and checked as a whole
logs              level and format of the log
http_server       one port: an aiohttp application behind our own connection handler
health            liveness and readiness
socketio_server   handles what clients send: connect handshake, events, token refresh, over python-socketio
transport         the wire to clients, both ways: Engine.IO 4 on aiohttp (polling, WebSocket, upgrade, heartbeat)
dev_console       the page at /dev, only with ``serve --dev``
auth              verifies tokens and returns identities
events            the event catalogue: from its file to frozen values
webhooks          sends client events to HTTP endpoints of backends
tracing           log lines and spans of traced messages
timers            the clock, and one heap of timers for the whole process
state             log, presence, recovery sessions, dedup keys, rates: in memory for one replica, or in Redis for many
services          the use cases: connect, disconnect, recovery, publish, token expiry, degraded mode, drain
hub               the connections and rooms of this replica; delivers messages to them
interfaces        the interfaces of the state, each with its contract
metrics           the primitives of Prometheus metrics, and the metrics of the process
domain            values and rules; standard library only

The signed REST API is the package ``ingest_api`` beside this one; of this package it imports the domain only.
"""

__version__ = "0.1.0"
