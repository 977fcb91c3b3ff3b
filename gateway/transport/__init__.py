"""Engine.IO 4 on aiohttp (https://socket.io/docs/v4/engine-io-protocol/).

server               the Engine.IO path: handshakes, polls, posts and WebSockets; all sessions of the replica
admission            which handshakes are admitted: limits, rates, addresses of clients behind trusted proxies
receive_limits       how much a client may send: size of a message, rate of all frames
unauthenticated      the sessions that have joined no namespace, and which of them makes room for another
cors                 which web pages may connect, and the headers for them
errors               how a handshake or a request is rejected, and the reasons for which sessions end
session              one Engine.IO session as a state machine: what to send, when to end; no I/O
transports           what a session sends through: a WebSocket, a poll, the send buffer; the count of frames
polling              the polling transport: GETs that wait for packets, POSTs that bring them
websocket            the WebSocket transport: opens connections and keeps them until they are closed
websocket_handshake  the opening handshake of a WebSocket
connection           one WebSocket connection: reads frames, handles messages, upgrades a session
websocket_writer     one WebSocket that ready frames are written to
frames               received WebSocket frames: bytes to messages, within a limit; no I/O
packets              the bytes of Engine.IO packets and polling payloads; WebSocket frames ready to write
deflate              compression of WebSocket messages and of HTTP answers: negotiation and bytes
heartbeat            ping and pong of every session, on the timer heap of the process
stats                what all sessions hold at one moment, and its gauges
request_boundaries   where the requests of an HTTP connection begin and end; no I/O
answers              aiohttp's connection handler, changed so that answers have a deadline
serial_requests      aiohttp's connection handler, changed to handle one request at a time
tcp_connections      how many TCP connections a listener has, and which make room for new ones
connection_totals    what all HTTP connections hold together: unread answers and unfinished requests
http                 that handler, extended: early errors, limits of heads, detach
http_response        the bytes of HTTP answers; bodies that are sent without being copied
whole_requests       parses what has arrived, if it is exactly one whole ordinary request; no I/O
new_connections      a TCP connection until its first bytes arrive: WebSockets opened without aiohttp
fast_path            that handler with a fast path, without aiohttp, for such requests
"""
