import { Batch } from "@/lib/batch";
import type { Impression, Interaction, Kind, Revocable } from "@/lib/types";

const interactions = new Batch<Interaction>("/api/interactions", "interactions");
const impressions = new Batch<Impression>("/api/impressions", "impressions");

/** Queues an interaction, which is sent soon, together with others. */
export function note(postId: string, kind: Kind): void {
  interactions.add({ id: crypto.randomUUID(), post_id: postId, interaction_type: kind });
}

/** Queues that a post was on the screen. */
export function noteImpression(impression: Impression): void {
  impressions.add(impression);
}

/** Sends the queued interactions and waits until they are recorded. */
export function flush(): Promise<void> {
  return interactions.flush();
}

/** Sends all that is queued while the page closes. */
export function flushAtEnd(): void {
  impressions.flushAtEnd();
  interactions.flushAtEnd();
}

export async function takeBack(postId: string, kind: Revocable): Promise<void> {
  await flush();
  interactions.drop((queued) => queued.post_id === postId && queued.interaction_type === kind);
  await fetch("/api/interactions", {
    method: "DELETE",
    keepalive: true,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ post_id: postId, interaction_type: kind }),
  });
}
