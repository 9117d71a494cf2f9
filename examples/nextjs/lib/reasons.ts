import "server-only";
import { query } from "@/lib/database";
import { HOME } from "@/lib/scenarios";
import type { Reason, Why } from "@/lib/types";

const MOST = 4;

type Row = {
  source: Reason["source"] | "freshness";
  contribution: number;
  content: string | null;
  topic: string | null;
  author: string | null;
  followed: string | null;
};

const EXPLAIN = `
  select e.source, e.contribution, p.content, p.topic, a.name as author, f.name as followed
  from recdb.explain($1, $2, scenario => '${HOME}') e
  left join post p on p.id = e.because_id
  left join "user" a on a.id = p.user_id
  left join "user" f on f.id = e.because_id
  where e.contribution > 0 or e.source = 'freshness'
  order by e.contribution desc`;

/** Reads why a post was recommended: the strongest reasons with their shares of its score, and what its age took off. */
export async function readReasons(userId: string, postId: string): Promise<Why> {
  const rows = await query<Row>(EXPLAIN, [userId, postId]);
  const total = rows.reduce((sum, row) => sum + Math.max(0, row.contribution), 0);
  const reasons = rows.flatMap(({ source, ...row }) => (source === "freshness" ? [] : [{ source, ...row }]));
  const freshness = rows.find((row) => row.source === "freshness");
  return {
    reasons: reasons.slice(0, MOST).map((row) => ({
      source: row.source,
      share: row.contribution / total,
      post: row.content === null ? null : { content: row.content, topic: row.topic ?? "", author: row.author ?? "" },
      followed: row.followed,
    })),
    faded: freshness ? -freshness.contribution / total : 0,
  };
}
