// Many stock socket.io-clients in one process: commands as JSON lines on stdin, events as JSON lines on stdout.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(new URL("./js/", import.meta.url));
// Polling by fetch(), which sends Accept-Encoding as a browser does; the XMLHttpRequest of the client for Node does not.
const { Fetch } = require("engine.io-client");
const sockets = new Map();
const answers = new Map(); // by client: what it acknowledges events with; without one it keeps the callbacks
const callbacks = new Map();
const report = (id, type, more = {}) => process.stdout.write(JSON.stringify({ id, type, ...more }) + "\n");

function watch(id, socket) {
  const onEngine = () => {
    const engine = socket.io.engine;
    report(id, "engine", { transport: engine.transport.name });
    engine.on("upgrade", (transport) => report(id, "upgrade", { transport: transport.name }));
  };
  socket.io.on("open", onEngine);
  socket.io.on("reconnect_attempt", (attempt) => report(id, "reconnect_attempt", { attempt }));
  socket.on("connect", () =>
    report(id, "connect", {
      sid: socket.id,
      pid: socket._pid,
      recovered: socket.recovered,
      transport: socket.io.engine.transport.name,
    }),
  );
  socket.on("connect_error", (error) =>
    report(id, "connect_error", {
      message: error.message,
      data: error.data,
      status: error.context?.status,
      body: error.context?.responseText,
      active: socket.active,
    }),
  );
  socket.on("disconnect", (reason) => report(id, "disconnect", { reason, active: socket.active }));
  socket.onAny((event, ...args) => {
    if (typeof args.at(-1) === "function") {
      const acknowledge = args.pop();
      if (answers.has(id)) acknowledge(...answers.get(id));
      else callbacks.set(id, [...(callbacks.get(id) ?? []), acknowledge]);
      report(id, "event", { event, args: args.map(plain), asked: true });
      return;
    }
    // With a pid the client takes a last string argument for the position, and passes it to the application as well.
    const offset = socket._pid && typeof args.at(-1) === "string" ? args.pop() : undefined;
    report(id, "event", { event, args: args.map(plain), offset });
  });
}

// JSON has no bytes: {"$bytes": [1, 2]} and {"$zeros": 2} stand for them in commands, {"$base64": "AQI="} in reports.
const revive = (value) => {
  if (value?.$zeros) return Buffer.alloc(value.$zeros);
  if (value?.$bytes) return Buffer.from(value.$bytes);
  if (Array.isArray(value)) return value.map(revive);
  if (value?.constructor !== Object) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, revive(each)]));
};

const base64 = (value) =>
  (ArrayBuffer.isView(value) ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : Buffer.from(value)).toString("base64");

const plain = (value) => {
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return { $base64: base64(value) };
  if (Array.isArray(value)) return value.map(plain);
  if (value?.constructor !== Object) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
};

const commands = {
  // With `manager`, the socket shares the connection of that earlier socket (another namespace on one transport).
  // `release` is that of the client, such as "4.0"; without it the newest one.
  open({ id, url, namespace = "/", options, manager, release }) {
    const { io } = require(release ? `socket.io-client-${release}` : "socket.io-client");
    if (options.transports?.[0] === "fetch") options.transports = [Fetch];
    const socket = manager
      ? sockets.get(manager).io.socket(namespace, options)
      : io(url + namespace, { forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 500, ...options });
    sockets.set(id, socket);
    watch(id, socket);
    if (manager) socket.connect();
  },
  emit: ({ id, event, args }) => sockets.get(id).emit(event, ...revive(args)),
  emitWithAck: ({ id, event, args, ackId }) =>
    sockets
      .get(id)
      .timeout(60000)
      .emit(event, ...revive(args), (error, ...answer) => report(id, "ack", { ackId, error: error?.message, answer: answer.map(plain) })),
  // Every release has this form.
  emitWithCallback: ({ id, event, args, ackId }) =>
    sockets.get(id).emit(event, ...revive(args), (...answer) => report(id, "ack", { ackId, answer })),
  // The timeout and the retries are those of the socket's options.
  emitWithRetries: ({ id, event, args, ackId }) =>
    sockets
      .get(id)
      .emit(event, ...revive(args), (error, ...answer) => report(id, "ack", { ackId, error: error?.message, answer })),
  // Acknowledge every event from now on; `repeat` is a text to be repeated as a further argument.
  answerAll: ({ id, args, repeat, answerId }) => {
    answers.set(id, [...revive(args), ...(repeat ? [repeat.text.repeat(repeat.times)] : [])]);
    report(id, "answering", { answerId });
  },
  // Call the callbacks of earlier events.
  answerKept: ({ id, args }) => callbacks.get(id).splice(0).forEach((acknowledge) => acknowledge(...revive(args))),
  // Send a packet as text, past the client.
  sendRaw: ({ id, text }) => sockets.get(id).io.engine.write(text),
  disconnect: ({ id }) => sockets.get(id).disconnect(),
  connect: ({ id, auth }) => {
    if (auth) sockets.get(id).auth = auth;
    sockets.get(id).connect();
  },
  setUrl: ({ id, url }) => {
    sockets.get(id).io.uri = url;
  },
  // As when the network of the client is lost. With `url`, the client reconnects there, as behind a load balancer.
  closeEngine: ({ id, url }) => {
    const manager = sockets.get(id).io;
    if (url) manager.uri = url;
    manager.engine.close();
  },
};

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    try {
      commands[command.do](command);
    } catch (error) {
      report(command.id, "failed", { message: String(error.stack) });
    }
  })
  .on("close", () => process.exit(0));
report(null, "ready");
