
"use strict";

const setup = JSON.parse(document.getElementById("setup").textContent);
const element = (id) => document.getElementById(id);
const base = location.pathname.replace(/\/?$/, "/");
const MAX_EVENTS = 200;

async function post(path, content) {
  const response = await fetch(base + path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Dev-Page": setup.secret },
    body: JSON.stringify({ user: setup.user, ...content }),
  });
  const body = await response.json();
  if (!response.ok) throw Object.assign(new Error(`${body.code}: ${body.message}`), { code: body.code });
  return body;
}

function showState(state, className) {
  element("state").textContent = state;
  element("indicator").className = `indicator ${className}`;
}

function addEvent(name, values, own) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  const title = document.createElement("b");
  const now = new Date();
  time.dateTime = now.toISOString();
  time.textContent = now.toLocaleTimeString([], { hour12: false }) + "." + String(now.getMilliseconds()).padStart(3, "0");
  title.textContent = name;
  if (own) item.className = "own";
  item.append(time, title);
  for (const value of values) {
    const text = document.createElement("pre");
    text.textContent = JSON.stringify(value, null, 2);
    item.append(text);
  }
  element("none").hidden = true;
  element("events").prepend(item);
  if (element("events").childElementCount > MAX_EVENTS) element("events").lastElementChild.remove();
}

function connect() {
  let attempt = 0;
  let ended = false; // the page is of an earlier run of the gateway
  const socket = io(location.origin + setup.namespace, {
    path: setup.path,
    // A function, so that each reconnection has a new token. The token of an earlier attempt is not sent.
    auth: async (send) => {
      const current = (attempt += 1);
      try {
        const { token } = await post("token");
        // This page does not use recovery, so events need no position.
        if (current === attempt) send({ token, recovery: false });
      } catch (error) {
        ended = error.code === "secret_rejected";
        if (ended) socket.disconnect();
        else if (current === attempt) socket.io.engine.close();
        showState(ended ? "The gateway was restarted: reload this page." : error.message, "off");
        element("toggle").hidden = ended;
      }
    },
  });
  socket.on("connect", () => {
    showState("connected", "on");
    element("sid").textContent = socket.id;
    element("toggle").textContent = "Disconnect";
    const showTransport = () => { element("transport").textContent = socket.io.engine.transport.name; };
    showTransport();
    socket.io.engine.once("upgrade", () => {
      showTransport();
      addEvent("(upgraded to WebSocket)", [], true);
    });
  });
  socket.on("connect_error", (error) => {
    if (ended) return;
    const next = socket.active ? "reconnecting" : "not reconnecting";
    showState(`rejected: ${error.data?.code ?? error.message} (${next})`, "off");
    if (!socket.active) element("toggle").textContent = "Connect";
  });
  socket.on("disconnect", (reason) => {
    if (ended) return;
    showState(socket.active ? `${reason}, reconnecting` : reason, "off");
    element("transport").textContent = "–";
    element("sid").textContent = "–";
    if (!socket.active) element("toggle").textContent = "Connect";
    addEvent(`(disconnected: ${reason})`, [], true);
  });
  socket.on("auth:expiring", async () => {
    const { token } = await post("token");
    socket.emit("auth:refresh", token, (answer) => addEvent("(auth:refresh answered)", [answer], true));
  });
  socket.onAny((name, ...values) => addEvent(name, values, false));
  return socket;
}

element("push").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const output = element("answer");
  output.className = "";
  try {
    const text = element("data").value.trim();
    const content = { event: element("event").value, ...(text ? { data: JSON.parse(text) } : {}) };
    const { connections } = await post("push", content);
    output.textContent = `accepted for ${connections} connection${connections === 1 ? "" : "s"}`;
  } catch (error) {
    output.className = "error";
    output.textContent = error.message;
  }
});

element("clear").addEventListener("click", () => {
  element("events").replaceChildren();
  element("none").hidden = false;
});

element("commands").hidden = !element("commands").querySelector("figure");

if (typeof io === "function") {
  const socket = connect();
  element("toggle").addEventListener("click", () => {
    if (socket.active) {
      socket.disconnect();
      element("toggle").textContent = "Connect";
    } else {
      showState("connecting", "");
      socket.connect();
    }
  });
} else {
  showState("the client did not load; is GATEWAY_SERVE_CLIENT off?", "off");
}
