// Node's Socket.IO as a push server: the three REST calls that are measured, a room for each user, and the handlers of
// benchmarks/events.yaml. It checks nothing: no token, no signature, no schema. Usage: node socketio_peer.mjs PORT
// With REDIS_URL it joins the other replicas there, with @socket.io/redis-adapter.
// The handler of "call" sends its request to WEBHOOK_URL, on the kept connections of Node's fetch.
import { createServer } from "node:http";
import { Server } from "socket.io";

const USER = "/emit/user/";
const http = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const { event, data, users } = JSON.parse(Buffer.concat(chunks));
    if (request.url.startsWith(USER)) {
      io.to(`user:${decodeURIComponent(request.url.slice(USER.length))}`).emit(event, data);
    } else if (users) {
      io.to(users.map((user) => `user:${user}`)).emit(event, data);
    } else {
      io.emit(event, data);
    }
    const body = '{"ok":true}';
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": body.length }).end(body);
  });
});

const callWebhook = async (socket, event, args) => {
  const response = await fetch(process.env.WEBHOOK_URL, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      type: "client.event",
      timestamp: new Date().toISOString(),
      data: { namespace: "/", event, args, connection: { sid: socket.id, rooms: [...socket.rooms] } },
    }),
  });
  return (await response.json()).ack;
};

http.keepAliveTimeout = 75_000; // as long as the gateway keeps idle connections of backends
const io = new Server(http, { serveClient: false });
if (process.env.REDIS_URL) {
  const [{ createAdapter }, { createClient }] = await Promise.all([import("@socket.io/redis-adapter"), import("redis")]);
  const publisher = createClient({ url: process.env.REDIS_URL });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  io.adapter(createAdapter(publisher, subscriber));
}
io.on("connection", (socket) => {
  socket.join(`user:${socket.handshake.auth.token}`);
  socket.on("joinRoom", (room, ack) => {
    socket.join(room);
    ack({ ok: true, room });
  });
  socket.on("message", ({ room, text, seq }) =>
    io.to(room).emit("message", { text, seq, sender: socket.id, timestamp: new Date().toISOString() }),
  );
  socket.on("ask", ({ seq }, ack) => ack({ ok: true, seq }));
  socket.on("call", async (message, ack) => ack(await callWebhook(socket, "call", [message])));
});
http.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
