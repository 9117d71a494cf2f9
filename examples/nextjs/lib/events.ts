import type { Interaction, Kind } from "@/lib/types";

const WAIT = 2_000;
const MOST_KEPT = 100;
const PLACE = "/api/interactions";

let queue: Interaction[] = [];
let timer: ReturnType<typeof setTimeout> | undefined;
let sending: Promise<void> = Promise.resolve();

/** Queues an interaction, which is sent soon, together with others. */
export function note(postId: string, kind: Kind): void {
  queue.push({ id: crypto.randomUUID(), post_id: postId, interaction_type: kind });
  timer ??= setTimeout(flush, WAIT);
}

/** Sends the queued interactions and waits until they are recorded. After a failure they stay in the queue. */
export function flush(): Promise<void> {
  sending = sending.then(send);
  return sending;
}

async function send(): Promise<void> {
  clearTimeout(timer);
  timer = undefined;
  const interactions = queue.splice(0, MOST_KEPT);
  if (interactions.length === 0) return;
  try {
    const response = await fetch(PLACE, {
      method: "POST",
      keepalive: true,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ interactions }),
    });
    if (response.status >= 500) throw new Error("not recorded");
  } catch {
    queue = [...interactions, ...queue].slice(0, MOST_KEPT);
    timer ??= setTimeout(flush, WAIT);
  }
}

/** Passes the queued interactions to the browser, which sends them even while the page closes. */
export function flushAtEnd(): void {
  const interactions = queue.splice(0, MOST_KEPT);
  if (interactions.length === 0) return;
  const body = new Blob([JSON.stringify({ interactions })], { type: "application/json" });
  if (!navigator.sendBeacon(PLACE, body)) queue.unshift(...interactions);
}

export async function takeLikeBack(postId: string): Promise<void> {
  await flush();
  await fetch(PLACE, {
    method: "DELETE",
    keepalive: true,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ post_id: postId }),
  });
}
