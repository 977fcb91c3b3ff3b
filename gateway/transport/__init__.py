"""Engine.IO 4 on aiohttp (https://socket.io/docs/v4/engine-io-protocol/).

packets     the bytes of packets and polling payloads, WebSocket frames ready to write
session     one session as a pure state machine: what to send, when to end; no I/O
outbox      what waits for a client that polls
carriers    what a session needs of polls and WebSockets
handshake   what is kept of the first request, and its answer
errors      how a handshake or request is refused
admission   which handshakes are let in
server      tells handshakes, polls, posts and WebSockets apart
polling     moves bytes for the polling carrier
websocket   moves bytes for the WebSocket carrier, and the upgrade to it
wire        a WebSocket to write ready frames to
heartbeat   keeps every session's ping and pong in the one schedule of the process
http        aiohttp's connection handler: refuses what HTTP forbids, cuts off half-sent heads, tells lost polls
"""
