import "server-only";
import { query } from "@/lib/database";
import type { Interaction, Revocable } from "@/lib/types";

/** Records interactions. The sender gives each one an id, so an interaction that is sent twice is recorded once. */
export async function record(userId: string, interactions: Interaction[]): Promise<void> {
  await query(
    `insert into user_interaction (id, user_id, post_id, interaction_type)
     select e.id, $1, e.post_id, e.interaction_type
     from jsonb_to_recordset($2::jsonb) e (id text, post_id text, interaction_type text)
     join post p on p.id = e.post_id
     on conflict (id) do nothing`,
    [userId, JSON.stringify(interactions)],
  );
}

/** Takes a like or a "not interested" back. */
export async function takeBack(userId: string, postId: string, kind: Revocable): Promise<void> {
  await query(
    `delete from user_interaction
     where user_id = $1 and post_id = $2 and interaction_type = $3`,
    [userId, postId, kind],
  );
}
