// A React hook for the push gateway: copy it into your project. Needs react >= 18 and socket.io-client 4.
import { useEffect, useRef, useState } from "react";
import { io, type ManagerOptions, type Socket, type SocketOptions } from "socket.io-client";

/** Answers a token for the current user; with `fresh`, a new one rather than one from your cache. */
export type GetToken = (fresh: boolean) => string | Promise<string>;

/** What to do with events, by their names. Define them as you like: new functions do not reconnect. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- what an event carries is between you and your backend
export type Handlers = Record<string, (...args: any[]) => void>;

export type SocketStatus =
  | "off" // `enabled` is false
  | "connecting" // on its way, or coming back by itself
  | "connected"
  | "refused" // `code` says why; another token may help
  | "ended"; // by a backend or by the gateway, on purpose; it does not come back by itself

export interface SocketState {
  status: SocketStatus;
  code?: string | undefined;
  socketId?: string | undefined;
}

export interface UseSocketOptions {
  getToken: GetToken;
  on?: Handlers | undefined;
  /** False while nobody is logged in. */
  enabled?: boolean | undefined;
  /** Read when the socket is made, not afterwards. */
  options?: Partial<ManagerOptions & SocketOptions> | undefined;
}

/**
 * Connects while the component is mounted. `url` is the gateway, with a namespace as its path if you use one:
 * `https://push.example.com/notifications`. Sockets of different namespaces share one connection.
 */
export function useSocket(url: string, { getToken, on, enabled = true, options }: UseSocketOptions): SocketState {
  const [state, setState] = useState<SocketState>({ status: enabled ? "connecting" : "off" });
  // The newest of what the caller passed, so that the effect depends on the address alone.
  const latest = useRef({ getToken, on, options });
  useEffect(() => {
    latest.current = { getToken, on, options };
  });

  useEffect(() => {
    if (!enabled) {
      setState({ status: "off" });
      return;
    }
    setState({ status: "connecting" });
    return open(url, latest, setState);
  }, [url, enabled]);

  return state;
}

type Latest = { readonly current: Pick<UseSocketOptions, "getToken" | "on" | "options"> };

/** One socket from beginning to end; what it returns ends it, also in the middle of fetching a token. */
function open(url: string, latest: Latest, setState: (state: SocketState) => void): () => void {
  let stopped = false;
  let attempt = 0;
  let fresh = false; // whether the next attempt needs a new token
  let token: string | undefined; // the one that is in use
  let endedWith: string | undefined;
  let failures = 0; // how often in a row there was no token to be had
  let retry: ReturnType<typeof setTimeout> | undefined;

  const socket: Socket = io(url, {
    ...latest.current.options,
    autoConnect: false,
    auth: (send) => {
      const mine = ++attempt;
      // When the line broke while the token was fetched, a newer attempt asks for one of its own; answering both would
      // say CONNECT twice.
      const isCurrent = () => !stopped && mine === attempt;
      fetchToken(fresh).then(
        (answer) => {
          failures = 0;
          if (isCurrent()) send({ token: (token = answer) });
        },
        // No token to be had: leave this namespace alone, others share the line, and try again, backing off.
        () => {
          if (!isCurrent()) return;
          socket.disconnect();
          setState({ status: "connecting" });
          failures += 1;
          retry = setTimeout(() => socket.connect(), Math.min(30_000, 1_000 * 2 ** (failures - 1)));
        },
      );
    },
  });
  const fetchToken = async (fresh: boolean) => latest.current.getToken(fresh);

  socket.on("connect", () => {
    fresh = false;
    endedWith = undefined;
    setState({ status: "connected", socketId: socket.id });
  });

  socket.on("connect_error", (error: Error & { data?: { code?: string } }) => {
    if (socket.active) return setState({ status: "connecting" }); // comes back by itself
    const code = error.data?.code ?? error.message;
    if (code === "token_expired" && !fresh) {
      fresh = true; // the cached token was stale: once more with a new one
      socket.connect();
    } else {
      setState({ status: "refused", code });
    }
  });

  socket.on("disconnect", () => {
    setState(socket.active ? { status: "connecting" } : { status: "ended", code: endedWith });
  });

  socket.on("error", (problem: { code?: string }) => {
    endedWith = problem.code; // said just before the gateway ends a socket for good
  });

  socket.on("auth:expired", () => {
    fresh = true; // the line is cut now, and comes back with this
  });

  socket.on("auth:expiring", async () => {
    try {
      const next = await fetchToken(true);
      if (stopped || !socket.connected || next === token) return;
      const answer = await socket.timeout(10_000).emitWithAck("auth:refresh", next);
      if (answer.ok) token = next;
    } catch {
      // Nothing is lost: the gateway cuts the line when the token ends, and the client comes back with a new one.
    }
  });

  // Never `socket.on(name, handler)`: handlers may change with every render.
  socket.onAny((name: string, ...args: unknown[]) => latest.current.on?.[name]?.(...args));

  // Not at once: StrictMode ends its first mount before this runs, which spares the gateway an abandoned handshake.
  queueMicrotask(() => {
    if (!stopped) socket.connect();
  });
  return () => {
    stopped = true;
    clearTimeout(retry);
    socket.offAny();
    socket.off();
    socket.disconnect();
  };
}
