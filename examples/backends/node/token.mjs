// Print a token for a user: GATEWAY_JWT_SECRET=… node token.mjs alice
import { createHmac } from "node:crypto";

const secret = process.env.GATEWAY_JWT_SECRET;
if (!secret) throw new Error("GATEWAY_JWT_SECRET is not set");

const base64url = (text) => Buffer.from(text).toString("base64url");

/** Return a token for `sub`, which is valid for an hour; `claims` such as {orgId: 7} grant rooms. */
export function gatewayToken(sub, claims = {}) {
  const now = Math.floor(Date.now() / 1000);
  const payload = { sub, iat: now, exp: now + 3600, ...claims };
  const text = `${base64url('{"alg":"HS256","typ":"JWT"}')}.${base64url(JSON.stringify(payload))}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

if (process.argv[2]) console.log(gatewayToken(process.argv[2]));
