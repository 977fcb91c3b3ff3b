// app/api/gateway-token/route.ts of a Next application: a token of the gateway for the logged-in user.
import { createHmac } from "node:crypto";
import { currentUser } from "@/lib/session"; // your own: the logged-in user, or null

export const dynamic = "force-dynamic"; // each answer has a token of its own

export async function GET(): Promise<Response> {
  const user = await currentUser();
  if (user === null) return Response.json({ error: "not logged in" }, { status: 401 });
  return Response.json({ token: gatewayToken(user.id, { orgId: user.orgId }) }, { headers: { "Cache-Control": "no-store" } });
}

/** Return a token for `sub`, which is valid for an hour; `claims` grant rooms. */
function gatewayToken(sub: string, claims: Record<string, unknown>): string {
  const secret = process.env["GATEWAY_JWT_SECRET"];
  if (!secret) throw new Error("GATEWAY_JWT_SECRET is not set");
  const now = Math.floor(Date.now() / 1000);
  const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${base64url({ alg: "HS256", typ: "JWT" })}.${base64url({ sub, iat: now, exp: now + 3600, ...claims })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}
