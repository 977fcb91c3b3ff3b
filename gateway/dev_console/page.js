
"use strict";

const setup = JSON.parse(document.getElementById("setup").textContent);
const element = (id) => document.getElementById(id);
const base = location.pathname.replace(/\/?$/, "/");
const MOST_EVENTS = 200;

async function ask(what, content) {
  const answer = await fetch(base + what, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Dev-Page": setup.secret },
    body: JSON.stringify({ user: setup.user, ...content }),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${body.code}: ${body.message}`);
  return body;
}

function show(state, lamp) {
  element("state").textContent = state;
  element("lamp").className = `lamp ${lamp}`;
}

function list(name, values, own) {
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
  if (element("events").childElementCount > MOST_EVENTS) element("events").lastElementChild.remove();
}

function connect() {
  let attempt = 0;
  const socket = io(location.origin + setup.namespace, {
    path: setup.path,
    // A function, so that each reconnection brings a fresh token; an answer to an earlier question is not sent.
    auth: async (send) => {
      const mine = (attempt += 1);
      try {
        const { token } = await ask("token");
        // Positions are of no use to a page like this.
        if (mine === attempt) send({ token, recovery: false });
      } catch (error) {
        show(error.message, "off");
        if (mine === attempt) socket.io.engine.close();
      }
    },
  });
  socket.on("connect", () => {
    show("connected", "on");
    element("sid").textContent = socket.id;
    element("toggle").textContent = "Disconnect";
    const name = () => { element("transport").textContent = socket.io.engine.transport.name; };
    name();
    socket.io.engine.once("upgrade", () => {
      name();
      list("(upgraded to WebSocket)", [], true);
    });
  });
  socket.on("connect_error", (error) => {
    const back = socket.active ? "trying again" : "not trying again";
    show(`refused: ${error.data?.code ?? error.message} (${back})`, "off");
    if (!socket.active) element("toggle").textContent = "Connect";
  });
  socket.on("disconnect", (reason) => {
    show(socket.active ? `${reason}, trying again` : reason, "off");
    element("transport").textContent = "–";
    element("sid").textContent = "–";
    if (!socket.active) element("toggle").textContent = "Connect";
    list(`(disconnected: ${reason})`, [], true);
  });
  socket.on("auth:expiring", async () => {
    const { token } = await ask("token");
    socket.emit("auth:refresh", token, (answer) => list("(auth:refresh answered)", [answer], true));
  });
  socket.onAny((name, ...values) => list(name, values, false));
  return socket;
}

element("push").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const output = element("answer");
  output.className = "";
  try {
    const text = element("data").value.trim();
    const content = { event: element("event").value, ...(text ? { data: JSON.parse(text) } : {}) };
    const { connections } = await ask("push", content);
    output.textContent = `accepted for ${connections} connection${connections === 1 ? "" : "s"}`;
  } catch (error) {
    output.className = "wrong";
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
      show("connecting", "");
      socket.connect();
    }
  });
} else {
  show("the client did not load; is GATEWAY_SERVE_CLIENT off?", "off");
}
