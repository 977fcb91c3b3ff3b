"""The Socket.IO server: clients on python-socketio over our own transport.

server              what happens on sessions, packets and events; rejections as CONNECT_ERROR
connect_handshake   the connect handshake of a namespace: token, recovery request, answer
client              one client: its session, its connections, and the transport of each
token_refresh       ``auth:refresh``: a newer token for a connection
packets             the bytes of Socket.IO packets
python_socketio     everything that is overridden of python-socketio; pinned by a contract test
access_log          log lines about connections, and their counters
unfinished_packets  binary packets of clients whose attachments have not all arrived
client_acks         acknowledgements that backends asked clients for
client_bundle       the stock browser client, served from the Socket.IO path
"""
