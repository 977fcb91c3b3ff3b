// Stock clients that start on polling and upgrade while messages come and go. On stdin a plan as a JSON line, then, when
// the last message has been pushed, its number; on stdout a line for each client that connects, and one for each result.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(new URL("./js/", import.meta.url));
const { io } = require("socket.io-client");
const { NodeXHR, NodeWebSocket } = require("engine.io-client");
const report = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const clients = [];

// The stock WebSocket, opened some time after the client asked for it: on one machine the upgrade would otherwise be over
// before the first message comes.
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
  const seen = { id, first: null, last: null, carriers: {}, asked: 0, answered: 0, transport: null, problems: [] };
  const client = { socket, seen, timer: null };
  clients.push(client);
  // Below the ack callbacks of the library, which would hide an answer that comes twice.
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
      if (seen.asked % 10 === 9) socket.emit("auth:refresh", token, () => {});
      else socket.emit("count", seen.asked, () => {});
      seen.asked += 1;
    }, 1000 / perSecond);
  });
  socket.on("tick", (number) => {
    seen.first ??= number;
    if (seen.last !== null && number !== seen.last + 1) seen.problems.push(`message ${number} after ${seen.last}`);
    seen.last = number;
    const carrier = socket.io.engine.transport.name;
    seen.carriers[carrier] = (seen.carriers[carrier] ?? 0) + 1;
  });
  socket.on("connect_error", (error) => seen.problems.push(`connect_error: ${error.message}`));
  socket.on("disconnect", (reason) => seen.problems.push(`disconnect: ${reason}`));
}

function begin({ url, tokens, perSecond, openingSeconds }) {
  tokens.forEach((token, index) => setTimeout(open, (index * openingSeconds * 1000) / tokens.length, url, token, perSecond));
}

function finish(last) {
  for (const client of clients) clearInterval(client.timer);
  const patience = Date.now() + 15000;
  const look = setInterval(() => {
    const waiting = clients.some(({ seen }) => seen.last !== last || seen.answered < seen.asked);
    if (waiting && Date.now() < patience) return;
    clearInterval(look);
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
