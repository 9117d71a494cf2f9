import "server-only";
import pg from "pg";

// In development, Next.js evaluates a changed file again. The pool is kept.
const kept = globalThis as { pool?: pg.Pool };

function connect(): pg.Pool {
  const pool = new pg.Pool({
    connectionString: process.env.DATABASE_URL,
    connectionTimeoutMillis: 2_000,
    query_timeout: 5_000,
    max: 10,
  });
  // The pool replaces an idle connection that breaks. Without this handler, the process would end.
  pool.on("error", (error) => console.warn("database:", error.message));
  return pool;
}

export async function query<Row extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<Row[]> {
  kept.pool ??= connect();
  return (await kept.pool.query<Row>(text, values)).rows;
}
