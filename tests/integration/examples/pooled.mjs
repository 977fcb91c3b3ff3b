// Sends signed pushes on pooled connections of node:http. The arguments and the input are those of pooled.go.
// A request that fails on a reused connection is sent again, as the documentation of request.reusedSocket shows.
import { Agent, request } from "node:http";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const idle = Number(process.argv[2]);
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
agent.on("free", (socket) => {
  socket.setTimeout(idle, () => socket.destroy());
});

function send([, , url, body, ...headers], repeats = true) {
  return new Promise((resolve) => {
    const fields = Object.fromEntries(headers.map((header) => header.split(": ")));
    fields["Content-Length"] = Buffer.byteLength(body);
    const sent = request(url, { agent, method: "POST", headers: fields }, (response) => {
      response.resume().on("end", () => resolve(response.statusCode));
    });
    sent.on("socket", (socket) => socket.setTimeout(0));
    sent.on("error", (error) => {
      const again = repeats && sent.reusedSocket && fields["Idempotency-Key"];
      resolve(again ? send(["", "", url, body, ...headers], false) : error.message);
    });
    sent.end(body);
  });
}

const workers = new Map();
for (const line of readFileSync(0, "utf8").trim().split("\n")) {
  const fields = line.split("\t");
  workers.set(fields[0], [...(workers.get(fields[0]) ?? []), fields]);
}
await Promise.all([...workers.values()].map(async (lines) => {
  for (const fields of lines) {
    await sleep(Number(fields[1]));
    console.log(await send(fields));
  }
}));
agent.destroy();
