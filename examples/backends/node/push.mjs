#!/usr/bin/env node
// Push one event through the gateway with a signed HTTP request. Node 18 or later, no package.
import { createHash, createHmac, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const usage = `usage: push.mjs (user <id> | room <room> | broadcast) <event> <json>
environment: GATEWAY_KEY, GATEWAY_SECRET; optional GATEWAY_URL, IDEMPOTENCY_KEY`;

const { GATEWAY_KEY: key, GATEWAY_SECRET: secret, GATEWAY_URL, IDEMPOTENCY_KEY } = process.env;
const base = (GATEWAY_URL || "http://127.0.0.1:8080").replace(/\/$/, "");

// One path segment: every byte but A-Z a-z 0-9 - . _ ~ becomes %XX.
function percentEncode(text) {
  const hex = (character) => "%" + character.charCodeAt(0).toString(16).toUpperCase();
  return encodeURIComponent(text).replace(/[!'()*]/g, hex);
}

// The path, and the envelope's members before the data; undefined if the command line is wrong.
function parse([kind, ...rest]) {
  const [to, event] = rest.map((text) => JSON.stringify(text));
  if (kind === "user" && rest.length === 3) return [`/emit/user/${percentEncode(rest[0])}`, `"event":${event}`];
  if (kind === "room" && rest.length === 3) return ["/emit/room", `"room":${to},"event":${event}`];
  if (kind === "broadcast" && rest.length === 2) return ["/broadcast", `"event":${to}`];
}

// The headers of one attempt, with a new timestamp and a new nonce.
function signedHeaders(target, body, idempotencyKey) {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const nonce = randomUUID();
  const bodySha256 = createHash("sha256").update(body).digest("hex");
  const text = ["v1", key, "POST", target, timestamp, nonce, idempotencyKey, bodySha256].join("\n");
  return {
    "Content-Type": "application/json",
    "Idempotency-Key": idempotencyKey,
    "X-Gateway-Key": key,
    "X-Gateway-Timestamp": timestamp,
    "X-Gateway-Nonce": nonce,
    "X-Gateway-Signature": "v1=" + createHmac("sha256", secret).update(text).digest("hex"),
  };
}

// Make one attempt. Returns status, Retry-After and body of the response; status 0 means no response.
async function post(url, body, idempotencyKey) {
  const headers = signedHeaders(url.pathname, body, idempotencyKey); // fetch sends this pathname unchanged
  try {
    const signal = AbortSignal.timeout(10_000);
    const answer = await fetch(url, { method: "POST", headers, body, redirect: "manual", signal });
    return [answer.status, answer.headers.get("Retry-After"), await answer.text()];
  } catch (error) {
    return [0, null, error.cause?.code ?? error.message];
  }
}

const request = parse(process.argv.slice(2));
if (!request || !key || !secret) {
  console.error(usage);
  process.exit(2);
}
const url = new URL(base + request[0]);
const body = `{${request[1]},"data":${process.argv.at(-1)}}`; // the data exactly as written
// One key for all attempts: the event is delivered once, whatever the first attempt did.
const idempotencyKey = IDEMPOTENCY_KEY || randomUUID();
let status, retryAfter, answer;
for (let triesLeft = 2; triesLeft >= 0; triesLeft--) {
  [status, retryAfter, answer] = await post(url, body, idempotencyKey);
  if (![0, 503].includes(status) || !triesLeft) break;
  await sleep(1000 * (/^\d+$/.test(retryAfter) ? Number(retryAfter) : 1));
}
if (status >= 200 && status < 300) {
  console.log(answer);
} else {
  console.error(status, answer);
  process.exitCode = 1;
}
