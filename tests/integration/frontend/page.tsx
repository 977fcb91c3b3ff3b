// A page with <Notifications> under StrictMode in its own DOM. Prints its content to stdout, reads commands from stdin.
import { Window } from "happy-dom";
import { createInterface } from "node:readline";

const window = new Window();
for (const [name, value] of Object.entries({ window, document: window.document, navigator: window.navigator })) {
  Object.defineProperty(globalThis, name, { value, configurable: true });
}

async function main([url, ...tokens]: string[]): Promise<void> {
  // After the globals, because react-dom looks for a DOM when it is loaded.
  const { StrictMode } = await import("react");
  const { createRoot } = await import("react-dom/client");
  const { Notifications } = await import("../../../examples/frontend/Notifications");

  const container = document.createElement("div");
  const root = createRoot(container);
  const calls: boolean[] = [];
  // Each token once, in order; the last one for every further call.
  const getToken = async (fresh: boolean) => {
    calls.push(fresh);
    const token = (tokens.length > 1 ? tokens.shift() : tokens[0]) ?? "";
    if (token === "unavailable") throw new Error("the issuer of tokens does not answer");
    return token;
  };

  let printed = "";
  const print = () => {
    const shown = {
      status: container.querySelector("[role=status]")?.textContent ?? null,
      items: [...container.querySelectorAll("li")].map((item) => item.textContent),
      calls,
    };
    const line = JSON.stringify(shown);
    if (line !== printed) console.log((printed = line));
  };
  const observer = new window.MutationObserver(print);
  observer.observe(container as never, { childList: true, subtree: true, characterData: true });

  const commands = createInterface({ input: process.stdin });
  commands.on("line", (command) => {
    if (command === "render") render();
    if (command === "look") console.log(JSON.stringify({ calls }));
    if (command === "unmount") {
      root.unmount();
      observer.disconnect();
      commands.close();
      process.stdin.destroy(); // after this only an unclosed socket could keep the process alive
    }
  });
  const render = () => root.render(<StrictMode><Notifications url={url ?? ""} getToken={getToken} /></StrictMode>);
  render();
}

void main(process.argv.slice(2));
