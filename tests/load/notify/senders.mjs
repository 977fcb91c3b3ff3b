// Stock socket.io-clients that send numbered events, one after the other: each one again, with the same id, until the
// gateway has acknowledged it. They reconnect to any replica. Commands are JSON lines on stdin, reports on stdout.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../support/js/", import.meta.url));
const { io } = require("socket.io-client");
const report = (type, more = {}) => process.stdout.write(JSON.stringify({ type, ...more }) + "\n");
const pick = (list) => list[Math.floor(Math.random() * list.length)];

const OPENING = 50; // how many connect at a time
const ACK_TIMEOUT_MS = 8000;
const AGAIN_MS = 200; // pause after an error

const senders = [];
const errors = {}; // codes of errors: how often
let ports = []; // of the replicas that a load balancer would choose from
let acknowledged = 0;
let slowest = 0; // ms from the first try of an event to its acknowledgement

const url = () => `http://127.0.0.1:${pick(ports)}`;

class Sender {
  constructor({ user, token, event }) {
    this.user = user;
    this.event = event;
    this.acked = 0;
    this.repeats = 0;
    this.socket = io(url(), {
      forceNew: true,
      transports: ["websocket"],
      auth: { token },
      retries: 1000, // the client repeats what was not acknowledged by itself, also after it reconnected
      ackTimeout: ACK_TIMEOUT_MS,
      reconnectionDelay: 200,
      reconnectionDelayMax: 1000,
    });
    const { io: manager } = this.socket;
    manager.on("reconnect_attempt", () => (manager.uri = url()));
  }

  // Send `count` events, the first at once and the others not before their time.
  send({ count, intervalMs, poison }) {
    this.last = this.acked + count;
    this.poison = poison;
    const began = Date.now() + Math.random() * intervalMs;
    const first = this.acked;
    this.due = (n) => began + (n - first - 1) * intervalMs;
    this.next();
  }

  next() {
    const n = this.acked + 1;
    if (n > this.last) return;
    const wait = this.due(n) - Date.now();
    if (wait > 0) setTimeout(() => this.emit(n, Date.now()), wait);
    else this.emit(n, Date.now());
  }

  emit(n, since) {
    const data = { n, id: `${this.user}-${this.event}-${n}` };
    if (this.poison === n) data.poison = true;
    this.socket.emit(this.event, data, (error, answer) => {
      if (error || answer?.error) {
        const code = error ? error.message : answer.error.code;
        errors[code] = (errors[code] ?? 0) + 1;
        setTimeout(() => this.emit(n, since), AGAIN_MS);
        return;
      }
      this.acked = n;
      acknowledged += 1;
      slowest = Math.max(slowest, Date.now() - since);
      this.next();
    });
  }
}

const until = (holds) =>
  new Promise((done) => {
    const timer = setInterval(() => {
      if (!holds()) return;
      clearInterval(timer);
      done();
    }, 20);
  });

const commands = {
  choose({ ports: chosen }) {
    ports = chosen;
  },
  async connect({ users }) {
    for (const each of users) {
      senders.push(new Sender(each));
      await until(() => senders.filter((sender) => !sender.socket.connected).length < OPENING);
    }
    await until(() => senders.every((sender) => sender.socket.connected));
    report("connected");
  },
  async send({ count, perSecond, poison }) {
    const before = acknowledged;
    const total = count * senders.length;
    const intervalMs = (1000 * senders.length) / perSecond;
    senders.forEach((sender, index) => sender.send({ count, intervalMs, poison: index === 0 ? poison : undefined }));
    const timer = setInterval(() => report("progress", { acknowledged: acknowledged - before }), 100);
    await until(() => acknowledged - before === total);
    clearInterval(timer);
    report("sent", { errors, slowest });
  },
};

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const command = JSON.parse(line);
    try {
      await commands[command.do](command);
    } catch (error) {
      report("failed", { message: String(error.stack) });
    }
  })
  .on("close", () => process.exit(0));
report("ready", { client: require("socket.io-client/package.json").version });
