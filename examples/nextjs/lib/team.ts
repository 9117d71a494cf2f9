import { createHash, timingSafeEqual } from "node:crypto";

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** Whether a request's authorization header has the product team's password. Without a password, nobody is of the team. */
export function isTeam(authorization: string | null): boolean {
  const password = process.env.PRODUCT_PASSWORD;
  const [scheme, code] = (authorization ?? "").split(" ");
  if (!password || scheme?.toLowerCase() !== "basic" || code === undefined) return false;
  const given = Buffer.from(code, "base64").toString();
  return timingSafeEqual(digest(given.slice(given.indexOf(":") + 1)), digest(password));
}
