import { MOST_EXCLUDED } from "@/lib/input";
import type { Page, Why } from "@/lib/types";

export const PAGE_SIZE = 50;

export async function requestPage(shown: string[]): Promise<Page> {
  const response = await fetch("/api/feeds", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ limit: PAGE_SIZE, exclude: shown.slice(-MOST_EXCLUDED) }),
  });
  if (!response.ok) throw new Error(`feed: ${response.status}`);
  return (await response.json()) as Page;
}

const reasons = new Map<string, Promise<Why>>();

/**
 * Asks why a post was recommended, before the first interaction with it is sent, and keeps the answer. After that
 * interaction the post is no longer recommended, so the database has no explanation for it.
 */
export function requestReasons(postId: string): Promise<Why> {
  const known = reasons.get(postId);
  if (known) return known;
  const asked = fetch(`/api/why?post_id=${encodeURIComponent(postId)}`).then(async (response) => {
    if (!response.ok) throw new Error(`why: ${response.status}`);
    return (await response.json()) as Why;
  });
  reasons.set(postId, asked);
  asked.catch(() => reasons.delete(postId));
  return asked;
}

export function forgetReasons(): void {
  reasons.clear();
}
