"""Engine.IO 4 on aiohttp (https://socket.io/docs/v4/engine-io-protocol/).

packets        the bytes of packets and polling payloads, WebSocket frames ready to write
deflate        compression of WebSocket messages: its negotiation and its bytes
session        one session as a pure state machine: what to send, when to end; no I/O
outbox         what waits for a client that polls
carriers       what a session needs of polls and WebSockets
handshake      what is kept of the first request, and its answer
errors         how a handshake or request is refused
addresses      where a client is, behind proxies that are trusted
admission      which handshakes are let in
address_rates  how often each address may come
limits         how much one message of a client may be
server         tells handshakes, polls, posts and WebSockets apart
polling        moves bytes for the polling carrier
websocket      opens WebSockets: new sessions, and those that take over from polling
connection     one WebSocket: reads and handles what comes, until its end
trial          a WebSocket that wants to take over from polling
opening        the handshake of a WebSocket
frames         what comes over a WebSocket: bytes to messages, limit first; no I/O
wire           a WebSocket to write ready frames to
heartbeat      keeps every session's ping and pong in the one schedule of the process
http           aiohttp's connection handler: refuses what HTTP forbids, cuts off half-sent heads, tells lost polls,
               hands WebSockets over
short_way      the same, and whole requests past the rest of aiohttp
replies        the bytes of HTTP answers that go past aiohttp
tasks          a task for what mostly needs none
"""
