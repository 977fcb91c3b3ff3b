// Prints every event of a user. Node 18 or later: npm install socket.io-client, then
//   node vanilla.mjs http://127.0.0.1:8080 "$(sio-gateway token --sub alice)"
import { io } from "socket.io-client";

const [url, token] = process.argv.slice(2);
if (!url || !token) {
  console.error("usage: vanilla.mjs <url of the gateway, with a namespace as its path> <token>");
  process.exit(2);
}

const socket = io(url, { auth: { token } });

socket.on("connect", () => console.log("connected as", socket.id));
socket.on("connect_error", (error) => {
  console.error("connect_error:", error.data?.code ?? error.message);
  if (!socket.active) process.exitCode = 1; // rejected: the client does not retry, and the program ends
});
socket.on("disconnect", (reason) => {
  console.log("disconnect:", reason, socket.active ? "(reconnecting)" : "(for good)");
});
socket.onAny((event, ...args) => console.log(event, JSON.stringify(args)));
