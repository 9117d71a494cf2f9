import "server-only";
import pg from "pg";

// In development, Next.js evaluates a changed file again. The pools are kept.
const kept = globalThis as { pools?: Map<string, pg.Pool> };

function connect(url: string): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    connectionTimeoutMillis: 2_000,
    query_timeout: 5_000,
    max: 10,
  });
  // The pool replaces an idle connection that breaks. Without this handler, the process would end.
  pool.on("error", (error) => console.warn("database:", error.message));
  return pool;
}

function toPool(variable: string): pg.Pool {
  kept.pools ??= new Map();
  const known = kept.pools.get(variable);
  if (known) return known;
  const url = process.env[variable];
  if (!url) throw new Error(`${variable} is not set`);
  const pool = connect(url);
  kept.pools.set(variable, pool);
  return pool;
}

export async function query<Row extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<Row[]> {
  return (await toPool("DATABASE_URL").query<Row>(text, values)).rows;
}

/** Runs several queries on one connection to the database that a variable names. */
export async function borrow<Result>(variable: string, work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
  const client = await toPool(variable).connect();
  let failed = true;
  try {
    const result = await work(client);
    failed = false;
    return result;
  } finally {
    client.release(failed);
  }
}

/** Runs a query as the product team's role, which reads figures of experiments and no user's data. */
export async function queryFigures<Row extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<Row[]> {
  return (await toPool("PRODUCT_DATABASE_URL").query<Row>(text, values)).rows;
}
