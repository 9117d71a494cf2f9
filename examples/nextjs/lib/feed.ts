import "server-only";
import { HOME, RECENT } from "@/lib/scenarios";
import { read } from "@/lib/standby";
import type { Page, Post } from "@/lib/types";

type Row = Omit<Post, "author" | "created_at"> & {
  created_at: Date;
  author_id: string;
  author_name: string;
  author_handle: string;
  model_version: string | null;
  served_at: Date;
};

const POST = `
  p.id, p.content, p.topic, p.created_at at time zone 'utc' as created_at,
  a.id as author_id, a.name as author_name, a.handle as author_handle,
  (select count(*)::int
   from user_interaction i
   where i.post_id = p.id and i.interaction_type = 'like') as likes,
  now() as served_at`;

// The application sees one function and joins it like a table. The row 'home' of recdb.scenario says how the list is
// steered; while an experiment runs on it, recommend() gives each user the list of the user's variant.
const PERSONAL = `
  select ${POST}, r.score, r.model_version
  from recommend($1, $2, $3::text[], scenario => '${HOME}') r
  join post p on p.id = r.item_id
  join "user" a on a.id = p.user_id
  order by r.score desc, r.item_id
  offset $4`;

// Recent posts that the user has not seen, at most two of one author. Their order stays the same for a day, so no page
// repeats a post.
const FALLBACK = `
  select ${POST}, null::float8 as score, null as model_version
  from (
    select *, row_number() over (partition by n.user_id order by n.created_at desc) as number_of_author
    from post n
    where n.user_id <> $1
      and n.deleted_at is null
      and n.original_post_id is null
      and n.id <> all ($3::text[])
      and not exists (select from user_interaction i where i.user_id = $1 and i.post_id = n.id)
    order by n.created_at desc
    limit 500
  ) p
  join "user" a on a.id = p.user_id
  where p.number_of_author <= 2
  order by md5(p.id || $1 || current_date)
  limit $2 - $4::int
  offset $4`;

export type Asked = { limit: number; offset: number; exclude: string[] };

function toPage(source: Page["source"], rows: Row[]): Page {
  return {
    source,
    scenario: source === "random" ? RECENT : HOME,
    model_version: rows[0]?.model_version ?? null,
    served_at: (rows[0]?.served_at ?? new Date()).toISOString(),
    posts: rows.map(({ author_id, author_name, author_handle, model_version, served_at, created_at, ...post }) => ({
      ...post,
      created_at: created_at.toISOString(),
      author: { id: author_id, name: author_name, handle: author_handle },
    })),
  };
}

/** Reads a page of the user's feed: recommendations, or recent posts if there are none or recommend() fails. */
export async function readFeed(userId: string, { limit, offset, exclude }: Asked): Promise<Page> {
  const values = [userId, offset + limit, exclude, offset];
  try {
    const rows = await read<Row>(PERSONAL, values);
    if (rows.length > 0) return toPage("ml_recommendations", rows);
  } catch (error) {
    console.warn("recommend():", error instanceof Error ? error.message : error);
  }
  return toPage("random", await read<Row>(FALLBACK, values));
}
