import pg from "pg";
import { url, user, verify } from "./verify";

type Row = { item_id: string; score: number; reason: string; model_version: string };

const pool = new pg.Pool({ connectionString: url });

async function ask(text: string, values: unknown[]): Promise<string[]> {
  const { rows } = await pool.query<Row>(text, values);
  return rows.map((row) => row.item_id);
}

await verify(
  () => ask("select * from recommend($1, 5)", [user]),
  {
    typed: (ids) => ask("select * from recommend($1, 5, $2::text[])", [user, ids]),
    untyped: (ids) => ask("select * from recommend($1, 5, $2)", [user, ids]),
    named: (ids) => ask("select * from recommend($1, 5, exclude => $2)", [user, ids]),
    json: (ids) => ask("select * from recommend($1, 5, $2)", [user, JSON.stringify(ids)]),
  },
  {
    "undefined, typed": () => ask("select * from recommend($1, 5, $2::text[])", [user, undefined]),
    "undefined, untyped": () => ask("select * from recommend($1, 5, $2)", [user, undefined]),
    null: () => ask("select * from recommend($1, $2, $3)", [user, 5, null]),
    "an empty literal": () => ask("select * from recommend($1, 5, '{}')", [user]),
  },
);
await pool.end();
