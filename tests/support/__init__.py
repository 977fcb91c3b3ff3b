"""Support of the tests of a whole gateway: real processes, stock clients, a backend that signs by itself.

gateway_process  a gateway in its own process, with its log as a journal
backend          a backend: signs and sends requests, written from the REST contract, not from the gateway's code
tokens           JSON Web Tokens, likewise written by hand
issuer           an issuer of tokens that serves its key set
clients          stock socket.io clients under Node (clients.mjs), many in one process
node_script      a Node process that takes commands and reports events as JSON lines
python_clients   python-socketio's clients, with the same interface
raw_clients      Engine.IO and Socket.IO frame by frame
upgrade_load     stock clients that upgrade while messages arrive (upgrade_load.mjs)
ports            a port for each server, which no other server of a test run gets
redis_server     a Redis on a free port that a test kills, freezes and restarts; Sentinels
redis_clock      the clock that a Redis state reads, moved by a test
tcp_proxy        a TCP proxy whose connections a test breaks, pauses and restores
nginx            nginx in front of replicas, as in examples/compose
collector        a collector of traces over OTLP
listeners        clients on several replicas, and what each received
traffic          backends that push steadily through several replicas
assertions       comparison of the messages received with the answers to backends
cluster          replicas with clients and traffic, and the checks after a fault
journal          entries in order, to wait for with a time limit
waiter           waits for a condition, with a time limit
health           liveness and readiness of a gateway
metrics          values of a registry of metrics
clock            a clock and timers that a test moves
loop_turns       whether code yields to the event loop
paths            paths of the repository
"""
