import "server-only";
import { query } from "@/lib/database";
import type { Impression } from "@/lib/types";

/**
 * Records which posts were on the screen, with one call of recdb.impressions() for each page of the feed.
 *
 * shown_at is the time at which recommend() made the page. So recdb records the user's variant of that time, which is the
 * one that the user saw, also if an experiment has begun or ended since then. A user can only record posts that exist.
 */
export async function recordImpressions(userId: string, impressions: Impression[]): Promise<void> {
  await query(
    `select recdb.impressions(
       $1::text, array_agg(e.post_id order by e.place), e.scenario, array_agg(e.place order by e.place), e.served_at,
       e.model_version)
     from jsonb_to_recordset($2::jsonb)
       e (post_id text, place integer, scenario text, served_at timestamptz, model_version text)
     join post p on p.id = e.post_id
     group by e.scenario, e.served_at, e.model_version`,
    [userId, JSON.stringify(impressions)],
  );
}
