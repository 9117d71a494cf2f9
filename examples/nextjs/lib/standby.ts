import "server-only";
import { cookies } from "next/headers";
import type pg from "pg";
import { borrow, query } from "@/lib/database";

// DATABASE_READ_URL may name a standby. A user who has just acted is read there only if the action is to be seen there:
// a cookie has the position of the primary's log after the user's last write.
const COOKIE = "position";
const LONGEST = 600;
const hasStandby = () => Boolean(process.env.DATABASE_READ_URL);

/** Keeps in the user's cookie how far a standby has to be. Call it after each write of the user. */
export async function keepPosition(): Promise<void> {
  if (!hasStandby()) return;
  const rows = await query<{ position: string }>("select pg_current_wal_insert_lsn()::text as position", []);
  (await cookies()).set(COOKIE, rows[0]?.position ?? "", { httpOnly: true, sameSite: "lax", path: "/", maxAge: LONGEST });
}

/** Runs a query that only reads: on the standby if there is one, it is far enough and it answers; else on the primary. */
export async function read<Row extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<Row[]> {
  if (hasStandby()) {
    const position = (await cookies()).get(COOKIE)?.value || null;
    try {
      const rows = await borrow("DATABASE_READ_URL", async (client) => {
        // A statement of its own before the other: a statement sees the rows of the moment at which it began.
        const asked = await client.query<{ fresh: boolean }>("select recdb.replayed($1::pg_lsn, '1 min') as fresh", [position]);
        return asked.rows[0]?.fresh ? (await client.query<Row>(text, values)).rows : undefined;
      });
      if (rows !== undefined) return rows;
    } catch (error) {
      console.warn("standby:", error instanceof Error ? error.message : error);
    }
  }
  return query<Row>(text, values);
}
