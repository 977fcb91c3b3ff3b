// An example of useSocket: the latest notifications of the logged-in user.
import { useState } from "react";
import { useSocket, type GetToken, type SocketState } from "./useSocket";

interface Notification {
  title: string;
}

interface Props {
  url: string;
  getToken: GetToken;
}

export function Notifications({ url, getToken }: Props) {
  const [items, setItems] = useState<Notification[]>([]);
  const state = useSocket(url, {
    getToken,
    on: {
      "notification:new": (item: Notification) => setItems((before) => [item, ...before].slice(0, 20)),
    },
  });

  return (
    <section aria-label="Notifications">
      <p role="status">{describe(state)}</p>
      <ul>
        {items.map((item, index) => (
          <li key={items.length - index}>{item.title}</li>
        ))}
      </ul>
    </section>
  );
}

function describe({ status, code, recovered }: SocketState): string {
  switch (status) {
    case "connected":
      return recovered ? "live, nothing missed" : "live";
    case "rejected":
      return `please log in again (${code})`;
    case "ended":
      return `ended (${code ?? "by this page"})`;
    case "connecting":
      return "connecting";
    case "off":
      return "";
  }
}
