// The messages of an organisation, as they were written for a NestJS gateway with the namespace /events.
import { io } from "socket.io-client";

export function connectEvents(url, token, show) {
  const socket = io(`${url}/events`, { auth: { token } });

  socket.on("connect", () => show("connected", socket.id));
  socket.on("message", ({ userId, data, timestamp }) => show("message", { userId, data, timestamp }));
  socket.on("error", ({ message }) => show("error", message));

  return {
    message: (room, data) => socket.emit("message", { room, data }),
    disconnect: () => socket.disconnect(),
  };
}
