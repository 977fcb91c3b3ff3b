// The notifications of a page, as they were written for a NestJS gateway with the namespace /.
import { io } from "socket.io-client";

export function connectNotifications(url, token, show) {
  const socket = io(url, { auth: { token } });

  socket.on("connect", () => show("connected", socket.id));
  socket.on("notification:new", (notification) => show("new", notification));
  socket.on("notification:read", ({ notificationId, success }) => show("read", { notificationId, success }));
  socket.on("user:online", ({ userId, timestamp }) => show("online", { userId, timestamp }));
  socket.on("user:offline", ({ userId, timestamp }) => show("offline", { userId, timestamp }));
  socket.on("error", ({ message }) => show("error", message));

  return {
    markRead: (notificationId) => socket.emit("notification:mark_read", { notificationId }),
    markReadAndWait: (notificationId) =>
      socket.emit("notification:mark_read", { notificationId }, (answer) => show("acknowledged", answer)),
    disconnect: () => socket.disconnect(),
  };
}
