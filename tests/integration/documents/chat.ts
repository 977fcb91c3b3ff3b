// A front end of examples/nestjs that uses the generated types: everything here compiles.
import { io, type Socket } from "socket.io-client";
import type {
  ChatClientToServerEvents,
  ChatMessage,
  ChatServerToClientEvents,
  ChatSocket,
  MainSocket,
} from "./gateway-events";

export const chat: ChatSocket = io("/chat", { auth: { token: "…" } });
export const main: MainSocket = io("/");
export const stock: Socket<ChatServerToClientEvents, ChatClientToServerEvents> = chat;

const note: ChatMessage = { text: "hi", room: "lobby" };

chat.on("connect", () => {
  chat.emit("joinRoom", "lobby");
  chat.emit("message", note);
  chat.volatile.emit("messageToRoom", { room: "lobby", message: { any: "thing" } });
});

chat.emit("joinRoom", "lobby", (answer) => {
  if ("error" in answer) {
    show(answer.error.code, answer.error.retryAfter);
  } else {
    show(answer.room, answer.event === "joinedRoom");
  }
});

chat.timeout(1000).emit("joinRoom", "lobby", (error, answer) => {
  show(error.message, "error" in answer ? answer.error.message : answer.room);
});

export async function join(room: string): Promise<string> {
  const answer = await chat.timeout(1000).emitWithAck("joinRoom", room);
  if ("error" in answer) throw new Error(answer.error.message);
  return answer.room;
}

export async function say(text: string): Promise<void> {
  const failure = await chat.emitWithAck("message", { text, room: "lobby" });
  if (failure !== undefined) throw new Error(failure.error.message);
}

export async function refresh(token: string): Promise<string | null> {
  const answer = await chat.emitWithAck("auth:refresh", token);
  if (!answer.ok) throw new Error(answer.code);
  return answer.expiresAt;
}

chat.on("message", (message) => {
  if (message === "Message received") return;
  show(message.text.toUpperCase(), message.sender, message.timestamp);
});
chat.on("userJoined", ({ userId, room }, position) => show(userId, room, position?.length));
chat.once("authenticated", ({ socketId, email, recovered }) => show(socketId, email, recovered === true));
chat.on("auth:expiring", ({ expiresIn }) => show(expiresIn.toFixed()));
chat.on("recovery:failed", ({ code }) => show(code === "data_lost"));
chat.on("error", ({ code, message, event }) => show(code, message, event));
chat.on("onlineUsers", (users, more) => {
  for (const { socketId, userId } of users) show(socketId, typeof userId === "string" ? userId : userId.toFixed());
  show(typeof more === "object" && more.truncated);
});
main.on("user:online", ({ userId, timestamp }) => show(userId.toUpperCase(), new Date(timestamp)));
main.on("user:offline", ({ userId }, position) => show(userId, position?.length));
chat.off("message");

main.emit("notification:mark_read", { notificationId: "n-1" });

function show(...values: unknown[]): void {
  document.title = String(values);
}
