// Stock socket.io-clients as pages of browsers: each page loads, reloads, moves to another replica or is closed.
// Commands are JSON lines on stdin, reports are JSON lines on stdout.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../support/js/", import.meta.url));
const { io } = require("socket.io-client");
const report = (type, more = {}) => process.stdout.write(JSON.stringify({ type, ...more }) + "\n");
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const OPENING = 50; // how many load at a time
const pages = new Map();

class Page {
  constructor({ token, url, elsewhere }) {
    this.token = token;
    this.url = url;
    this.elsewhere = elsewhere; // where it reconnects to; without it, it does not
  }

  load() {
    this.socket = io(this.url, {
      forceNew: true,
      transports: ["websocket"],
      auth: { token: this.token },
      reconnection: Boolean(this.elsewhere),
      reconnectionDelay: 50,
      reconnectionDelayMax: 200,
    });
    if (this.elsewhere) this.socket.io.on("reconnect_attempt", () => (this.socket.io.uri = this.elsewhere));
    return new Promise((done) => this.socket.once("connect", done));
  }

  // As a browser does: the connection ends, and after a while the new page opens another one.
  async reload(awayMs) {
    this.close();
    await sleep(Math.random() * awayMs);
    await this.load();
  }

  close() {
    this.socket.io.reconnection(false);
    this.socket.io.engine.close();
    this.socket.disconnect();
  }
}

// Run a task for each page, `atOnce` of them at a time.
async function forEach(ids, atOnce, task) {
  const rest = [...ids];
  const work = async () => {
    for (let id = rest.shift(); id !== undefined; id = rest.shift()) await task(pages.get(id));
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, ids.length) }, work));
}

const commands = {
  async open({ pages: wanted }) {
    for (const { id, ...page } of wanted) pages.set(id, new Page(page));
    await forEach(wanted.map(({ id }) => id), OPENING, (page) => page.load());
  },
  reload: ({ ids, times, awayMs }) =>
    forEach(ids, ids.length, async (page) => {
      for (let count = 0; count < times; count += 1) {
        await page.reload(awayMs);
        await sleep(Math.random() * awayMs);
      }
    }),
  load: ({ ids, url }) =>
    forEach(ids, OPENING, (page) => {
      page.url = url ?? page.url;
      return page.load();
    }),
  close: ({ ids }) => forEach(ids, ids.length, (page) => page.close()),
  awaitConnected: ({ ids }) =>
    forEach(ids, ids.length, async (page) => {
      while (!page.socket.connected) await sleep(20);
    }),
};

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const { number, ...command } = JSON.parse(line);
    try {
      await commands[command.do](command);
      report("done", { number });
    } catch (error) {
      report("failed", { message: String(error.stack) });
    }
  })
  .on("close", () => process.exit(0));
report("ready", { client: require("socket.io-client/package.json").version });
