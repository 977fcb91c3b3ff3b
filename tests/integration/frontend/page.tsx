// A page with <Notifications> in a DOM of its own, under StrictMode: says on stdout what it shows, obeys stdin.
import { Window } from "happy-dom";
import { createInterface } from "node:readline";

const window = new Window();
for (const [name, value] of Object.entries({ window, document: window.document, navigator: window.navigator })) {
  Object.defineProperty(globalThis, name, { value, configurable: true });
}

async function main([url, ...tokens]: string[]): Promise<void> {
  // After the globals: react-dom looks for a DOM when it is loaded.
  const { StrictMode } = await import("react");
  const { createRoot } = await import("react-dom/client");
  const { Notifications } = await import("../../../examples/frontend/Notifications");

  const container = document.createElement("div");
  const root = createRoot(container);
  const asked: boolean[] = [];
  // The first tokens in their order, the last one for good.
  const getToken = async (fresh: boolean) => {
    asked.push(fresh);
    const token = (tokens.length > 1 ? tokens.shift() : tokens[0]) ?? "";
    if (token === "unavailable") throw new Error("whoever issues tokens does not answer");
    return token;
  };

  let said = "";
  const say = () => {
    const shown = {
      status: container.querySelector("[role=status]")?.textContent ?? null,
      items: [...container.querySelectorAll("li")].map((item) => item.textContent),
      asked,
    };
    const line = JSON.stringify(shown);
    if (line !== said) console.log((said = line));
  };
  const observer = new window.MutationObserver(say);
  observer.observe(container as never, { childList: true, subtree: true, characterData: true });

  const commands = createInterface({ input: process.stdin });
  commands.on("line", (command) => {
    if (command === "render") render();
    if (command === "look") console.log(JSON.stringify({ asked }));
    if (command === "unmount") {
      root.unmount();
      observer.disconnect();
      commands.close();
      process.stdin.destroy(); // from here on only a socket that was forgotten could keep this process alive
    }
  });
  const render = () => root.render(<StrictMode><Notifications url={url ?? ""} getToken={getToken} /></StrictMode>);
  render();
}

void main(process.argv.slice(2));
