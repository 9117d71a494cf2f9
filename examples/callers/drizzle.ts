import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import pg from "pg";
import { url, user, verify } from "./verify";

type Row = { item_id: string; score: number; reason: string; model_version: string };

const pool = new pg.Pool({ connectionString: url });
const db = drizzle(pool);

const toIds = ({ rows }: { rows: Row[] }) => rows.map((row) => row.item_id);

// Drizzle takes an array apart into ($1, $2, …); sql.param() keeps it one parameter.
await verify(
  async () => toIds(await db.execute<Row>(sql`select * from recommend(${user}, 5)`)),
  {
    typed: async (ids) => toIds(await db.execute<Row>(sql`select * from recommend(${user}, 5, ${sql.param(ids)}::text[])`)),
    untyped: async (ids) => toIds(await db.execute<Row>(sql`select * from recommend(${user}, 5, ${sql.param(ids)})`)),
    json: async (ids) => toIds(await db.execute<Row>(sql`select * from recommend(${user}, 5, ${JSON.stringify(ids)})`)),
  },
  {
    undefined: async () => toIds(await db.execute<Row>(sql`select * from recommend(${user}, 5, ${sql.param(undefined)})`)),
    null: async () => toIds(await db.execute<Row>(sql`select * from recommend(${user}, ${5}, ${null})`)),
    "an empty literal": async () => toIds(await db.execute<Row>(sql`select * from recommend(${user}, 5, '{}')`)),
  },
);
await pool.end();
