#!/usr/bin/env node
// Know who is online, and store each notified event once: verify, store, then answer. Node 18 or later, no package.
import { createHmac, timingSafeEqual } from "node:crypto";
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

const TOLERANCE_SECONDS = 300;
const MAX_BODY_BYTES = 1 << 20;
const REMEMBERED = 10_000; // ids of events

const { WEBHOOK_SECRET = "", PORT, DATA } = process.env;
const key = Buffer.from(WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");

// A file to which every change is appended before it is answered. A database with a transaction takes its place in
// your application: update the row of the user only where the version, or sequence, is above the stored one.
const path = join(DATA || ".", "who-is-online.jsonl");
const presence = new Map(); // user → { online, version, since }
const sequences = new Map(); // user → the last sequence
const ids = new Set(); // of the events, oldest first

function apply({ kind, user, online, version, since, sequence, id }) {
  if (kind === "presence") presence.set(user, { online, version, since });
  if (kind === "sequence" || kind === "event") sequences.set(user, sequence);
  if (kind === "event") {
    ids.add(id);
    if (ids.size > REMEMBERED) ids.delete(ids.values().next().value);
  }
}

// Read the file, without a last line that was cut off by a crash: it was not answered.
function load() {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n").slice(0, -1).map((line) => JSON.parse(line));
  for (const line of lines) apply(line);
  return lines;
}

function append(file, changes) {
  writeSync(file, changes.map((each) => JSON.stringify(each) + "\n").join(""));
  fsyncSync(file);
}

// Start with a new file that has the newest state of each user and the stored events.
function rewrite(lines) {
  const whole = [
    ...lines.filter(({ kind }) => kind === "event"),
    ...[...presence].map(([user, state]) => ({ kind: "presence", user, ...state })),
    ...[...sequences].map(([user, sequence]) => ({ kind: "sequence", user, sequence })),
  ];
  const file = openSync(path + ".new", "w");
  append(file, whole);
  closeSync(file);
  renameSync(path + ".new", path);
  return openSync(path, "a");
}

// Whether one of the signatures fits the raw body, and the time is within the tolerance.
function isAuthentic(id, timestamp, signatures, body) {
  if (!/^\d{1,12}$/.test(timestamp)) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_SECONDS) return false;
  const digest = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const expected = Buffer.from(`v1,${digest}`);
  const matches = (text) => text.length === expected.length && timingSafeEqual(text, expected);
  return signatures.split(" ").map((text) => matches(Buffer.from(text))).includes(true);
}

const check = (value, type) => {
  if (typeof value !== type) throw new TypeError("the event has a wrong form");
  return value;
};

// The change that an event makes; undefined if it is known, or not above the last one of its user.
// Your application begins here.
function changeOf({ id, type, data }, before) {
  if (type === "user.online" || type === "user.offline") {
    const [user, version] = [check(data.user, "string"), check(data.version, "number")];
    const last = before.presence.get(user) ?? presence.get(user);
    if (last && version <= last.version) return undefined;
    const change = { kind: "presence", user, online: type === "user.online", version, since: data.since };
    before.presence.set(user, change);
    return change;
  }
  if (type !== "client.event") return undefined; // webhook.test, and types of later releases
  const [user, sequence] = [check(data.connection.user, "string"), check(data.sequence, "number")];
  const last = before.sequences.get(user) ?? sequences.get(user) ?? 0;
  if (ids.has(id) || before.ids.has(id) || sequence <= last) return undefined;
  before.sequences.set(user, sequence);
  before.ids.add(id);
  return { kind: "event", id, user, sequence, event: check(data.event, "string"), args: data.args };
}

// Store a request, all of it or nothing.
function store(id, body) {
  const message = JSON.parse(body);
  const events = message.type === "batch" ? message.data : [{ ...message, id }];
  const before = { presence: new Map(), sequences: new Map(), ids: new Set() };
  const changes = events.map((each) => changeOf(each, before)).filter((each) => each !== undefined);
  if (changes.length) append(journal, changes);
  for (const change of changes) {
    apply(change);
    const { kind, user, online, version, sequence } = change;
    if (kind === "event") console.log("event", user, sequence, change.id);
    else console.log(online ? "user.online" : "user.offline", user, version);
  }
}

async function receive(request) {
  if (request.method === "GET") {
    // Keep this route away from the network in your application.
    return [200, { online: [...presence].filter(([, { online }]) => online).map(([user]) => user).sort() }];
  }
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) return [413, { message: "The body is too large." }];
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  const { "webhook-id": id, "webhook-timestamp": timestamp = "", "webhook-signature": signatures = "" } = request.headers;
  if (!id || !isAuthentic(id, timestamp, signatures, body)) {
    return [401, { code: "bad_signature", message: "The signature is not valid." }];
  }
  try {
    store(id, body);
  } catch (error) {
    // 400: this event is bad and becomes a dead letter. Another error ends the request without an answer, so the
    // gateway sends it again.
    if (!(error instanceof SyntaxError || error instanceof TypeError) || error.code) throw error;
    return [400, { code: "invalid_payload", message: "The event has a wrong form." }];
  }
  return [204];
}

if (!key.length) {
  console.error("environment: WEBHOOK_SECRET (whsec_…); optional PORT, DATA");
  process.exit(2);
}
const journal = rewrite(load());
const server = createServer(async (request, response) => {
  try {
    const [status, answer] = await receive(request);
    const content = answer && JSON.stringify(answer);
    response.writeHead(status, content && { "Content-Type": "application/json" }).end(content);
  } catch (error) {
    if (error.code !== "ECONNRESET") console.error(error.message);
    response.destroy();
  }
});
server.listen(Number(PORT || 3000), "127.0.0.1");
