"""A standalone push gateway: backends push with one signed request, frontends listen with Socket.IO.

The house, from the street to the cellar; imports go down only:

    __main__, cli/     the command line: serve, token, emit, presence, listen, check-config, print-env, doctor …
    app/               composition root: builds and joins every room; owns the process and its tasks
    doctor/            looks at the Redis and the host that a gateway is to run with, and changes nothing
    settings           what the operator may say, read once and checked as a whole (read by app and cli alone)
    socketio_door/     receives from clients: connect, authentication, client events, over python-socketio
    transport/         sends to clients: Engine.IO 4 on aiohttp (polling, WebSocket, upgrade, heartbeat)
    dev_door/          the page at /dev, only in development mode
    identity           tokens to identities        health, metrics, logs, tracing     what operators see
    state/memory/      broker, presence, sessions, claims, rates, revocations of one replica
    state/redis/       the same for many replicas that share a Redis
    application/       the verbs: connecting, publishing, presence, expiring
    hub                which connection of this replica is in which room; delivers messages to them
    ports              the interfaces of the state, each with its law
    domain/            values and rules; standard library only

The signed REST door is a package of its own beside this one, ``ingest_api``; of this house it sees the domain only.
"""

__version__ = "0.1.0"
