import "server-only";
import { sessionId } from "@/lib/users";

const MESSAGES = { 400: "invalid request", 401: "log in first", 503: "the feed cannot be reached right now" } as const;

export function refuse(status: keyof typeof MESSAGES): Response {
  return Response.json({ error: MESSAGES[status] }, { status });
}

/** Answers a request of the logged-in user. An internal error is logged, and the client gets no details. */
export async function answer(work: (userId: string) => Promise<Response>): Promise<Response> {
  try {
    const userId = await sessionId();
    return userId === null ? refuse(401) : await work(userId);
  } catch (error) {
    console.error("request:", error instanceof Error ? error.message : error);
    return refuse(503);
  }
}

export async function readJson(request: Request): Promise<unknown> {
  try {
    return await request.json();
  } catch {
    return undefined;
  }
}
