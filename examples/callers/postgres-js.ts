import postgres from "postgres";
import { url, user, verify } from "./verify";

type Row = { item_id: string; score: number; reason: string; model_version: string };

// You need `prepare: false` only behind a pgbouncer older than 1.21 in transaction mode.
const sql = postgres(url, { prepare: false });

const toIds = (rows: Row[]) => rows.map((row) => row.item_id);

await verify(
  async () => toIds(await sql<Row[]>`select * from recommend(${user}, 5)`),
  {
    typed: async (ids) => toIds(await sql<Row[]>`select * from recommend(${user}, 5, ${ids}::text[])`),
    named: async (ids) => toIds(await sql<Row[]>`select * from recommend(${user}, 5, exclude => ${ids})`),
    json: async (ids) => toIds(await sql<Row[]>`select * from recommend(${user}, 5, ${JSON.stringify(ids)})`),
  },
  {
    // postgres.js refuses undefined. null excludes nothing.
    null: async () => toIds(await sql<Row[]>`select * from recommend(${user}, 5, ${null})`),
    "null, typed": async () => toIds(await sql<Row[]>`select * from recommend(${user}, ${5}, ${null}::text[])`),
    "an empty literal": async () => toIds(await sql<Row[]>`select * from recommend(${user}, 5, '{}')`),
  },
);
await sql.end();
