// Stock clients that start on polling and upgrade while both sides send messages. On stdin a plan as a JSON line, then,
// when the last message has been pushed, its number; on stdout a line for each connect, and one for each result.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(new URL("./js/", import.meta.url));
const { io } = require("socket.io-client");
const { NodeXHR, NodeWebSocket } = require("engine.io-client");
const report = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const clients = [];

// The stock WebSocket, opened some time after the client wants it: on one machine the upgrade would otherwise end
// before the first message.
class LateWebSocket extends NodeWebSocket {
  doOpen() {
    setTimeout(() => super.doOpen(), 200 + Math.random() * 800);
  }
}

function open(url, token, perSecond) {
  const id = clients.length;
  const socket = io(url, {
    forceNew: true,
    reconnection: false,
    auth: { token },
    transports: [NodeXHR, LateWebSocket],
  });
  const seen = { id, first: null, last: null, transports: {}, emitted: 0, answered: 0, transport: null, problems: [] };
  const client = { socket, seen, timer: null };
  clients.push(client);
  // Below the ack callbacks of the library, which would hide a second answer.
  socket.io.on("open", () =>
    socket.io.engine.on("packet", ({ type, data }) => {
      const answer = type === "message" && /^3(\d+)\[/.exec(data);
      if (!answer) return;
      if (Number(answer[1]) !== seen.answered) seen.problems.push(`answer ${answer[1]} after ${seen.answered} others`);
      seen.answered += 1;
    }),
  );
  socket.on("connect", () => {
    report({ type: "connect", id });
    client.timer = setInterval(() => {
      if (seen.emitted % 10 === 9) socket.emit("auth:refresh", token, () => {});
      else socket.emit("count", seen.emitted, () => {});
      seen.emitted += 1;
    }, 1000 / perSecond);
  });
  socket.on("tick", (number) => {
    seen.first ??= number;
    if (seen.last !== null && number !== seen.last + 1) seen.problems.push(`message ${number} after ${seen.last}`);
    seen.last = number;
    const transport = socket.io.engine.transport.name;
    seen.transports[transport] = (seen.transports[transport] ?? 0) + 1;
  });
  socket.on("connect_error", (error) => seen.problems.push(`connect_error: ${error.message}`));
  socket.on("disconnect", (reason) => seen.problems.push(`disconnect: ${reason}`));
}

function begin({ url, tokens, perSecond, openingSeconds }) {
  tokens.forEach((token, index) => setTimeout(open, (index * openingSeconds * 1000) / tokens.length, url, token, perSecond));
}

function finish(last) {
  for (const client of clients) clearInterval(client.timer);
  const deadline = Date.now() + 15000;
  const timer = setInterval(() => {
    const waiting = clients.some(({ seen }) => seen.last !== last || seen.answered < seen.emitted);
    if (waiting && Date.now() < deadline) return;
    clearInterval(timer);
    for (const { socket, seen } of clients) {
      report({ type: "result", ...seen, transport: socket.io.engine.transport.name });
    }
    process.stdout.write("", () => process.exit(0));
  }, 50);
}

let begun = false;
createInterface({ input: process.stdin }).on("line", (line) => {
  if (begun) finish(JSON.parse(line));
  else begin(JSON.parse(line));
  begun = true;
});
