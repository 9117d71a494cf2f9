import { type SQL, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import pg from "pg";
import { url, user, verify } from "./verify";

type Row = { item_id: string; score: number; reason: string; model_version: string };

const pool = new pg.Pool({ connectionString: url });
const db = drizzle(pool);

async function ask(query: SQL): Promise<string[]> {
  const { rows } = await db.execute<Row>(query);
  return rows.map((row) => row.item_id);
}

// Drizzle expands an array into ($1, $2, …). sql.param() passes it as one parameter.
await verify(
  () => ask(sql`select * from recommend(${user}, 5)`),
  {
    typed: (ids) => ask(sql`select * from recommend(${user}, 5, ${sql.param(ids)}::text[])`),
    untyped: (ids) => ask(sql`select * from recommend(${user}, 5, ${sql.param(ids)})`),
    json: (ids) => ask(sql`select * from recommend(${user}, 5, ${JSON.stringify(ids)})`),
  },
  {
    undefined: () => ask(sql`select * from recommend(${user}, 5, ${sql.param(undefined)})`),
    null: () => ask(sql`select * from recommend(${user}, ${5}, ${null})`),
    "an empty literal": () => ask(sql`select * from recommend(${user}, 5, '{}')`),
  },
);
await pool.end();
