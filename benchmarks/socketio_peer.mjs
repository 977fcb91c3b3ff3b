// Node's Socket.IO as a push server: the two REST calls that are measured, and a room for each user. It checks nothing:
// no token, no signature, no schema. Usage: node socketio_peer.mjs PORT
import { createServer } from "node:http";
import { Server } from "socket.io";

const USER = "/emit/user/";
const http = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const { event, data } = JSON.parse(Buffer.concat(chunks));
    if (request.url.startsWith(USER)) {
      io.to(`user:${decodeURIComponent(request.url.slice(USER.length))}`).emit(event, data);
    } else {
      io.emit(event, data);
    }
    const body = '{"ok":true}';
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": body.length }).end(body);
  });
});

http.keepAliveTimeout = 75_000; // as long as the gateway keeps idle connections of backends
const io = new Server(http, { serveClient: false });
io.on("connection", (socket) => socket.join(`user:${socket.handshake.auth.token}`));
http.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
