// Stock socket.io-clients whose connections break again and again. Each records the events that it got and their
// positions. Commands are JSON lines on stdin, reports are JSON lines on stdout.
import net from "node:net";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../support/js/", import.meta.url));
const { io } = require("socket.io-client");
const report = (type, more = {}) => process.stdout.write(JSON.stringify({ type, ...more }) + "\n");
const pick = (list) => list[Math.floor(Math.random() * list.length)];

const OPENING = 50; // how many connect at a time: many at once are not tested here
const ANSWER_MS = 10000;

const clients = [];
let living = []; // the ports of the replicas that a balancer would choose from
let plan; // as in `begin`
let dropping = false;
let awaited = () => {}; // checks whether the current command is done

// The network of one client: a port of its own that leads to one replica until the client connects anew.
class Line {
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

  // The client reconnects: over a new network, to any replica.
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

  // Neither notices.
  silence() {
    this.hold();
    this.silent = true;
  }
}

const ways = {
  closed: (client) => client.socket.io.engine.close(),
  torn: (client) => client.line.tear(),
  silent: (client) => client.line.silence(),
};

class Client {
  async start({ token, transports }) {
    const url = plan.url ?? (await this.layLine());
    this.got = []; // [number, or -1 for an event of the gateway, position] of every event
    this.connects = []; // [when, whether recovered, time without a connection before it]
    this.failed = []; // codes of recovery:failed
    this.left = {}; // reasons of disconnects: how often
    this.errors = {}; // connect_error: how often
    this.dropped = {}; // ways: how often
    this.best = transports.at(-1); // what it upgrades to, if it begins with another transport
    this.replicas = []; // the replica of each connect; the sid of the Engine.IO session begins with its name
    this.upgrades = 0;
    this.asked = 0;
    this.answered = 0;
    this.isLast = false;
    // Without a keep-alive agent: where one of its connections breaks, xmlhttprequest-ssl repeats the request and never
    // ends it, so that the client waits forever.
    this.socket = io(url, {
      forceNew: true,
      transports,
      auth: { token, ...plan.auth },
      ...plan.options,
    });
    this.watch();
  }

  async layLine() {
    this.line = new Line();
    await this.line.listen();
    this.line.open(pick(living));
    return this.line.url;
  }

  get carrier() {
    return this.socket.io.engine.transport.name;
  }

  watch() {
    const { socket } = this;
    if (this.line) socket.io.on("reconnect_attempt", () => this.line.open(pick(living)));
    socket.io.on("open", () =>
      socket.io.engine.on("upgrade", () => {
        this.upgrades += 1;
        awaited();
      }),
    );
    socket.on("connect", () => {
      const now = Date.now();
      this.connects.push([now, Boolean(socket.recovered), this.leftAt ? now - this.leftAt : 0]);
      this.replicas.push(socket.io.engine.id.split(".")[0]);
      this.dropLater();
      awaited();
    });
    socket.on("disconnect", (reason) => {
      this.leftAt = Date.now();
      this.left[reason] = (this.left[reason] ?? 0) + 1;
      clearTimeout(this.timer);
    });
    socket.on("connect_error", (error) => {
      const what = `${error.message}${error.context?.status ? ` ${error.context.status}` : ""}`;
      this.errors[what] = (this.errors[what] ?? 0) + 1;
    });
    socket.onAny((event, ...args) => {
      const position = socket._pid && typeof args.at(-1) === "string" ? args.at(-1) : null;
      this.got.push([args[0]?.n ?? -1, position]);
      if (event === "recovery:failed") this.failed.push(args[0].code);
      if (event === "last") {
        this.isLast = true;
        awaited();
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
    const way = pick(plan.ways);
    this.dropped[way] = (this.dropped[way] ?? 0) + 1;
    ways[way](this);
  }

  // Send an event that the gateway does not know, and count the acknowledgement.
  ask() {
    this.asked += 1;
    this.socket.timeout(ANSWER_MS).emit("question", {}, (late, answer) => {
      if (late || answer?.error?.code !== "unknown_event") return;
      this.answered += 1;
      awaited();
    });
  }

  result() {
    const { got, connects, failed, left, errors, dropped, replicas, upgrades, answered, carrier } = this;
    return { got, connects, failed, left, errors, dropped, replicas, upgrades, answered, carrier };
  }
}

const whenAll = (holds, type, more = () => ({})) => {
  awaited = () => {
    if (!clients.every(holds)) return;
    awaited = () => {};
    report(type, more());
  };
  awaited();
};

const fewerAreOpening = () =>
  new Promise((done) => {
    awaited = () => {
      if (clients.filter((client) => !client.socket.connected).length < OPENING) done();
    };
    awaited();
  });

const commands = {
  async begin({ clients: wanted, ...rest }) {
    plan = rest;
    for (const each of wanted) {
      const client = new Client();
      await client.start(each);
      clients.push(client);
      await fewerAreOpening();
    }
    whenAll(
      (client) => client.socket.connected,
      "connected",
      () => ({ sids: clients.map((client) => client.socket.id) }),
    );
  },
  choose({ ports }) {
    living = ports;
  },
  ask() {
    for (const client of clients) client.ask();
    whenAll((client) => client.answered === client.asked, "answered");
  },
  settle() {
    whenAll((client) => client.socket.connected && client.carrier === client.best, "settled");
  },
  drop() {
    dropping = true;
    for (const client of clients) client.dropLater();
  },
  calm() {
    dropping = false;
    for (const client of clients) clearTimeout(client.timer);
    whenAll((client) => client.isLast, "heard");
  },
  tell() {
    for (const client of clients) report("result", client.result());
    report("told");
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
