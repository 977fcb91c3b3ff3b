// The development server of a Vite project passes /socket.io/ to the gateway of `make run`, so that the page connects with
// `io({ auth })`, to its own origin.
import { defineConfig } from "vite";

const port = process.env["GATEWAY_PORT"] ?? "8080";

export default defineConfig({
  server: {
    proxy: { "/socket.io/": { target: `http://127.0.0.1:${port}`, ws: true } },
  },
});
