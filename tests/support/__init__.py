"""What tests of the whole gateway stand on: real processes, the stock clients, a backend that signs by itself.

process   a gateway as a process of its own; its log is kept and searched for stack traces
backend   a backend: signs and sends requests, written from the contract and not from our code
tokens    JSON Web Tokens, likewise
journal   things that happened, to be waited for with a time limit
clients   stock socket.io-clients under Node (clients.mjs), one Node process for many clients
upgrading stock clients that upgrade while messages come and go (upgrade_load.mjs)
redis_server, cutting, link              a Redis, and links to it, that a test breaks
waiting   until what nothing tells of is so
listeners, traffic, assertions, cluster  clients and backends of several replicas; checks of every delivery
"""
