import "server-only";
import { query } from "@/lib/database";
import type { Reason } from "@/lib/types";

const MOST = 4;

type Row = {
  source: Reason["source"];
  contribution: number;
  content: string | null;
  topic: string | null;
  author: string | null;
  followed: string | null;
};

const EXPLAIN = `
  select e.source, e.contribution, p.content, p.topic, a.name as author, f.name as followed
  from recdb.explain($1, $2) e
  left join post p on p.id = e.because_id
  left join "user" a on a.id = p.user_id
  left join "user" f on f.id = e.because_id
  where e.contribution > 0
  order by e.contribution desc`;

/** Reads why a post was recommended: the strongest reasons with their shares of the score. */
export async function readReasons(userId: string, postId: string): Promise<Reason[]> {
  const rows = await query<Row>(EXPLAIN, [userId, postId]);
  const total = rows.reduce((sum, row) => sum + row.contribution, 0);
  return rows.slice(0, MOST).map((row) => ({
    source: row.source,
    share: row.contribution / total,
    post:
      row.content === null ? null : { content: row.content, topic: row.topic ?? "", author: row.author ?? "" },
    followed: row.followed,
  }));
}
