// Stock socket.io-clients whose connections break repeatedly. Each records the events that it received and their
// positions. Commands are JSON lines on stdin, reports are JSON lines on stdout.
import http from "node:http";
import net from "node:net";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../support/js/", import.meta.url));
const { io } = require("socket.io-client");
const report = (type, more = {}) => process.stdout.write(JSON.stringify({ type, ...more }) + "\n");
const pick = (list) => list[Math.floor(Math.random() * list.length)];

const OPENING = 50; // how many connect at a time: a burst of handshakes is not the subject here
const ACK_TIMEOUT_MS = 10000;

const clients = [];
let ports = []; // of the replicas that a load balancer would choose from
let plan; // the arguments of `connect`
let dropping = false;
let check = () => {}; // checks whether the current command is done

// The network of one client: a relay with a port of its own, which leads to one replica until the client reconnects.
class Relay {
  constructor() {
    this.pairs = new Set();
    this.server = net.createServer((near) => this.accept(near));
  }

  listen() {
    return new Promise((done) => this.server.listen(0, "127.0.0.1", done));
  }

  get url() {
    return `http://127.0.0.1:${this.server.address().port}`;
  }

  // The client reconnects: closes all connections; new ones lead to `port`.
  open(port) {
    this.port = port;
    this.silent = false;
    for (const { near } of this.pairs) near.destroy();
  }

  accept(near) {
    const pair = { near, held: this.silent };
    this.pairs.add(pair);
    near.setNoDelay(true);
    near.on("error", () => {});
    near.on("close", () => {
      this.pairs.delete(pair);
      if (!pair.held) pair.far.destroy();
    });
    if (pair.held) {
      near.resume();
      return;
    }
    const far = (pair.far = net.connect({ port: this.port, host: "127.0.0.1", noDelay: true }));
    far.on("error", () => {});
    far.on("close", () => {
      if (!pair.held) near.destroy();
    });
    near.pipe(far);
    far.pipe(near);
  }

  // From now on nothing gets through, and neither end is closed. What is received is read and dropped, so that the
  // server's kernel gets its acknowledgements and the server believes that its client is still connected.
  hold() {
    for (const pair of this.pairs) {
      if (pair.held) continue;
      const { near, far } = pair;
      pair.held = true;
      near.unpipe(far);
      far.unpipe(near);
      near.resume();
      far.resume();
    }
  }

  // The client notices at once that its connection broke, the server does not.
  tear() {
    this.hold();
    for (const { near } of this.pairs) near.destroy();
  }

  // Neither side notices.
  silence() {
    this.hold();
    this.silent = true;
  }
}

const breaks = {
  closed: (client) => client.socket.io.engine.close(),
  torn: (client) => client.relay.tear(),
  silent: (client) => client.relay.silence(),
};

class Client {
  async start({ token, transports }) {
    // Connections are kept alive where none breaks: thousands of polls a minute would use up the ports of an address.
    const { localAddress } = plan;
    const agent = localAddress ? { agent: new http.Agent({ localAddress, keepAlive: true }) } : {};
    const url = plan.url ?? (await this.openRelay());
    this.got = []; // [number, position] of every event; -1: of the gateway; -2: it connected and was not
    // recovered; -3: recovery:failed
    this.connects = []; // [when, whether recovered, time without a connection before it]
    this.failed = []; // codes of recovery:failed
    this.failedAt = []; // when each arrived
    this.disconnects = {}; // reasons of disconnects: how often
    this.errors = {}; // connect_error: how often
    this.dropped = {}; // kinds of breaks: how often
    this.bestTransport = transports.at(-1); // what it upgrades to, if it begins with another transport
    this.replicas = []; // the replica of each connect; the sid of the Engine.IO session begins with its name
    this.upgrades = 0;
    this.emitted = 0;
    this.acknowledged = 0;
    this.isLast = false;
    // Without a keep-alive agent: where one of its connections breaks, xmlhttprequest-ssl repeats the request and never
    // ends it, so that the client waits forever.
    this.socket = io(url, {
      forceNew: true,
      transports,
      auth: { token, ...plan.auth },
      ...agent,
      ...plan.options,
    });
    this.watch();
  }

  async openRelay() {
    this.relay = new Relay();
    await this.relay.listen();
    this.relay.open(pick(ports));
    return this.relay.url;
  }

  get transport() {
    return this.socket.io.engine.transport.name;
  }

  watch() {
    const { socket } = this;
    if (this.relay) socket.io.on("reconnect_attempt", () => this.relay.open(pick(ports)));
    socket.io.on("open", () =>
      socket.io.engine.on("upgrade", () => {
        this.upgrades += 1;
        check();
      }),
    );
    socket.on("connect", () => {
      const now = Date.now();
      if (!socket.recovered) this.got.push([-2, null]);
      this.connects.push([now, Boolean(socket.recovered), this.disconnectedAt ? now - this.disconnectedAt : 0]);
      this.replicas.push(socket.io.engine.id.split(".")[0]);
      this.dropLater();
      check();
    });
    socket.on("disconnect", (reason) => {
      this.disconnectedAt = Date.now();
      this.disconnects[reason] = (this.disconnects[reason] ?? 0) + 1;
      clearTimeout(this.timer);
    });
    socket.on("connect_error", (error) => {
      const what = `${error.message}${error.context?.status ? ` ${error.context.status}` : ""}`;
      this.errors[what] = (this.errors[what] ?? 0) + 1;
    });
    socket.onAny((event, ...args) => {
      const position = socket._pid && typeof args.at(-1) === "string" ? args.at(-1) : null;
      this.got.push([event === "recovery:failed" ? -3 : (args[0]?.n ?? -1), position]);
      if (event === "recovery:failed") {
        this.failed.push(args[0].code);
        this.failedAt.push(Date.now());
      }
      if (event === "last") {
        this.isLast = true;
        check();
      }
    });
  }

  dropLater() {
    if (!dropping || !this.socket.connected) return;
    clearTimeout(this.timer);
    const [shortest, longest] = plan.upSeconds;
    this.timer = setTimeout(() => this.drop(), (shortest + Math.random() * (longest - shortest)) * 1000);
  }

  drop() {
    const kind = pick(plan.breaks);
    this.dropped[kind] = (this.dropped[kind] ?? 0) + 1;
    breaks[kind](this);
  }

  // Emit an event that the gateway does not know, and count the acknowledgement.
  emitWithAck() {
    this.emitted += 1;
    this.socket.timeout(ACK_TIMEOUT_MS).emit("question", {}, (late, answer) => {
      if (late || answer?.error?.code !== "unknown_event") return;
      this.acknowledged += 1;
      check();
    });
  }

  result() {
    const { got, connects, failed, failedAt, disconnects, errors, dropped, replicas, upgrades, acknowledged } = this;
    const counts = { disconnects, errors, dropped, replicas, upgrades, acknowledged };
    return { got, connects, failed, failedAt, ...counts, transport: this.transport };
  }
}

const whenAll = (holds, type, more = () => ({})) => {
  check = () => {
    if (!clients.every(holds)) return;
    check = () => {};
    report(type, more());
  };
  check();
};

const fewerConnect = () =>
  new Promise((done) => {
    check = () => {
      if (clients.filter((client) => !client.socket.connected).length < OPENING) done();
    };
    check();
  });

const commands = {
  async connect({ clients: wanted, ...rest }) {
    plan = rest;
    for (const each of wanted) {
      const client = new Client();
      await client.start(each);
      clients.push(client);
      await fewerConnect();
    }
    whenAll(
      (client) => client.socket.connected,
      "connected",
      () => ({ sids: clients.map((client) => client.socket.id) }),
    );
  },
  choose({ ports: chosen }) {
    ports = chosen;
  },
  emitWithAck() {
    for (const client of clients) client.emitWithAck();
    whenAll((client) => client.acknowledged === client.emitted, "acknowledged");
  },
  awaitConnected() {
    whenAll((client) => client.socket.connected && client.transport === client.bestTransport, "allConnected");
  },
  drop() {
    dropping = true;
    for (const client of clients) client.dropLater();
  },
  stopDropping() {
    dropping = false;
    for (const client of clients) clearTimeout(client.timer);
  },
  awaitLast() {
    whenAll((client) => client.isLast, "receivedLast");
  },
  countDisconnects() {
    const counts = clients.flatMap((client) => Object.values(client.disconnects));
    report("disconnectsCounted", { count: counts.reduce((sum, count) => sum + count, 0) });
  },
  reportResults() {
    for (const client of clients) report("result", client.result());
    report("reported");
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
report("ready", { node: process.versions.node, client: require("socket.io-client/package.json").version });
