// A React hook for sio-gateway: copy it into your project. Needs react >= 18 and socket.io-client 4.
"use client"; // for Next: it runs in the browser

import { useEffect, useRef, useState } from "react";
import { io, type ManagerOptions, type Socket, type SocketOptions } from "socket.io-client";

/** Returns a token for the current user; with `fresh`, a new one rather than one from your cache. */
export type GetToken = (fresh: boolean) => string | Promise<string>;

/** Handlers of events, by name. They may be new functions on each render, which does not reconnect. */
export type Handlers = Record<string, (...args: never[]) => void>;

export type SocketStatus =
  | "off" // `enabled` is false
  | "connecting" // connecting, or reconnecting by itself
  | "connected"
  | "rejected" // the gateway rejected the token; `code` is the reason; another token may help
  | "ended"; // disconnected by a backend or by the gateway; it does not reconnect by itself

export interface SocketState {
  status: SocketStatus;
  code?: string | undefined;
  socketId?: string | undefined;
  /** Whether the events that were missed before this connection have been received; if not, load your state anew. */
  recovered?: boolean | undefined;
}

export interface UseSocketOptions {
  getToken: GetToken;
  on?: Handlers | undefined;
  /** False while no user is logged in. */
  enabled?: boolean | undefined;
  /** Read when the socket is created, not afterwards. */
  options?: Partial<ManagerOptions & SocketOptions> | undefined;
}

/**
 * Connect while the component is mounted. `url` is the gateway, with a namespace as its path if you use one:
 * `https://push.example.com/notifications`. Sockets of different namespaces share one connection.
 */
export function useSocket(url: string, { getToken, on, enabled = true, options }: UseSocketOptions): SocketState {
  const [state, setState] = useState<SocketState>({ status: "connecting" });
  // The latest arguments of the caller, so that the effect depends on `url` and `enabled` alone.
  const latest = useRef({ getToken, on, options });
  useEffect(() => {
    latest.current = { getToken, on, options };
  });

  useEffect(() => {
    if (enabled) return open(url, latest, setState);
  }, [url, enabled]);

  return enabled ? state : { status: "off" };
}

type Latest = { readonly current: Pick<UseSocketOptions, "getToken" | "on" | "options"> };

/** Open one socket. The returned function closes it, also while a token is being fetched. */
function open(url: string, latest: Latest, setState: (state: SocketState) => void): () => void {
  let stopped = false;
  let attempt = 0;
  let fresh = false; // whether the next attempt needs a new token
  let token: string | undefined; // the token in use
  let endedWith: string | undefined;
  let failures = 0; // consecutive failures of getToken
  let retry: ReturnType<typeof setTimeout> | undefined;

  const socket: Socket = io(url, {
    ...latest.current.options,
    autoConnect: false,
    auth: (send) => {
      const mine = ++attempt;
      // If the transport breaks while the token is fetched, a newer attempt fetches its own. Answering both would send
      // CONNECT twice.
      const isCurrent = () => !stopped && mine === attempt;
      fetchToken(fresh).then(
        (answer) => {
          failures = 0;
          if (isCurrent()) send({ token: (token = answer) });
        },
        // getToken failed: disconnect this namespace only, since others share the transport, and retry with back-off.
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
    setState({ status: "connected", socketId: socket.id, recovered: socket.recovered });
  });

  socket.on("connect_error", (error: Error & { data?: { code?: string; retryAfter?: number } }) => {
    if (socket.active) return setState({ status: "connecting" }); // reconnects by itself
    const code = error.data?.code ?? error.message;
    const retryAfter = error.data?.retryAfter;
    if (retryAfter !== undefined) {
      // The clock of the backend is ahead of the gateway's: the same token is accepted then.
      retry = setTimeout(() => socket.connect(), retryAfter * 1000);
      return setState({ status: "connecting" });
    }
    if (code === "token_expired" && !fresh) {
      fresh = true; // the cached token was stale: retry once with a new one
      socket.connect();
    } else {
      setState({ status: "rejected", code });
    }
  });

  socket.on("disconnect", () => {
    setState(socket.active ? { status: "connecting" } : { status: "ended", code: endedWith });
  });

  socket.on("error", (problem: { code?: string }) => {
    endedWith = problem.code; // sent just before the gateway disconnects a socket
  });

  socket.on("auth:expired", () => {
    fresh = true; // the transport closes now, and the reconnect needs a new token
  });

  socket.on("auth:expiring", async () => {
    try {
      const next = await fetchToken(true);
      if (stopped || !socket.connected || next === token) return;
      const answer = await socket.timeout(10_000).emitWithAck("auth:refresh", next);
      if (answer.ok) token = next;
    } catch {
      // No message is lost: the gateway closes the transport at expiry, and the client reconnects with a new token.
    }
  });

  // Not `socket.on(name, handler)`: handlers may change with every render.
  socket.onAny((name: string, ...args: unknown[]) => latest.current.on?.[name]?.(...(args as never[])));

  // Deferred: StrictMode unmounts its first mount before this runs, which avoids an abandoned handshake.
  queueMicrotask(() => {
    if (stopped) return;
    setState({ status: "connecting" });
    socket.connect();
  });
  return () => {
    stopped = true;
    clearTimeout(retry);
    socket.offAny();
    socket.off();
    socket.disconnect();
  };
}
