#!/usr/bin/env node
// Receive client events from the gateway: verify each webhook request and answer it. Node 18 or later, no package.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const TOLERANCE_SECONDS = 300;
const MAX_BODY_BYTES = 1 << 20;
const REMEMBERED = 10_000; // more than the requests of two times the tolerance

const { WEBHOOK_SECRET = "", PORT } = process.env;
const key = Buffer.from(WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
const answers = new Map(); // by webhook-id: a repeat has no second effect

// Whether one of the signatures fits the raw body, and the time is within the tolerance.
function isAuthentic(id, timestamp, signatures, body) {
  if (!/^\d{1,12}$/.test(timestamp)) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_SECONDS) return false;
  const digest = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const expected = Buffer.from(`v1,${digest}`);
  const matches = (text) => text.length === expected.length && timingSafeEqual(text, expected);
  return signatures.split(" ").map((text) => matches(Buffer.from(text))).includes(true);
}

// Status and JSON answer for an event; your application begins here.
function answerTo({ type, data }) {
  if (type !== "client.event") return [204]; // webhook.test, and types of later releases
  if (data.event !== "notification:mark_read") {
    return [404, { code: "unknown_event", message: "This backend does not know the event." }];
  }
  const { notificationId } = data.args[0];
  if (typeof notificationId !== "string") throw new TypeError("notificationId is not a string");
  if (notificationId.startsWith("x")) {
    return [403, { code: "not_yours", message: "This notification belongs to another user." }];
  }
  console.log("read", notificationId, "by", data.connection.user);
  const read = { event: "notification:read", data: { notificationId, success: true } };
  return [200, { emit: [read], ack: { success: true } }];
}

// The answer to a verified request; a repeat of an id gets the first answer.
// Where the work is asynchronous, keep its promise here, so that a repeat waits for the same one.
function answerOnce(id, body) {
  if (!answers.has(id)) {
    let answer = [400, { code: "invalid_payload", message: "The event has a wrong form." }];
    try {
      answer = answerTo(JSON.parse(body));
    } catch (error) {
      if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    }
    answers.set(id, answer);
    if (answers.size > REMEMBERED) answers.delete(answers.keys().next().value);
  }
  return answers.get(id);
}

async function receive(request) {
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
  return answerOnce(id, body);
}

if (!key.length) {
  console.error("environment: WEBHOOK_SECRET (whsec_…); optional PORT");
  process.exit(2);
}
const server = createServer(async (request, response) => {
  try {
    const [status, answer] = await receive(request);
    const content = answer && JSON.stringify(answer);
    response.writeHead(status, content && { "Content-Type": "application/json" }).end(content);
  } catch {
    response.destroy(); // the request broke off
  }
});
server.listen(Number(PORT || 3000), "127.0.0.1");
