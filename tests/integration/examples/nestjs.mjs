// Runs the front-end modules of examples/nestjs: one page for each user. Commands as JSON lines on stdin, what a page
// shows as JSON lines on stdout.
import { createInterface } from "node:readline";
import { connectChat } from "./chat.mjs";
import { connectEvents } from "./events.mjs";
import { connectNotifications } from "./notifications.mjs";

const modules = { chat: connectChat, events: connectEvents, notifications: connectNotifications };
const pages = new Map();

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { page, connect, url, token, call, args = [] } = JSON.parse(line);
    const show = (shown, data) => process.stdout.write(JSON.stringify({ page, shown, data }) + "\n");
    if (connect) pages.set(page, modules[connect](url, token, show));
    else pages.get(page)[call](...args);
  })
  .on("close", () => process.exit());
