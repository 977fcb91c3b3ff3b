// The chat of a page, as it was written for a NestJS gateway with the namespace /chat.
import { io } from "socket.io-client";

export function connectChat(url, token, show) {
  const socket = io(`${url}/chat`, { auth: { token } });

  socket.on("connect", () => show("connected", socket.id));
  socket.on("joinedRoom", (data) => show("joinedRoom", data));
  socket.on("leftRoom", (data) => show("leftRoom", data));
  socket.on("userJoined", ({ userId, room }) => show("userJoined", { userId, room }));
  socket.on("userLeft", ({ userId, room }) => show("userLeft", { userId, room }));
  socket.on("message", (message) => {
    if (typeof message === "string") show("receipt", message); // what handleMessage() returned
    else show("message", message);
  });
  socket.on("roomMessage", ({ message, sender }) => show("roomMessage", { message, sender }));
  socket.on("privateMessage", ({ from, message }) => show("privateMessage", { from, message }));
  socket.on("onlineUsers", (users) => show("onlineUsers", users));
  socket.on("error", ({ message }) => show("error", message));

  return {
    joinRoom: (room) => socket.emit("joinRoom", room),
    joinRoomAndWait: async (room) => show("acknowledged", await socket.emitWithAck("joinRoom", room)),
    leaveRoom: (room) => socket.emit("leaveRoom", room),
    message: (text, room) => socket.emit("message", { text, room }),
    messageToRoom: (room, message) => socket.emit("messageToRoom", { room, message }),
    privateMessage: (to, message) => socket.emit("privateMessage", { to, message }),
    disconnect: () => socket.disconnect(),
  };
}
