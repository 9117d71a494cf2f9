import "server-only";
import { randomInt, randomUUID } from "node:crypto";
import { cookies } from "next/headers";
import { query } from "@/lib/database";
import { isId } from "@/lib/input";

const COOKIE = "user";

export type User = { id: string; name: string; handle: string };
export type Candidate = User & { topics: string[]; interactions: number };

const NEWCOMERS = ["Robin Vale", "Alex Marsh", "Sam Field", "Jo Rivers", "Charlie Stone", "Kim Hollis"];

/** Returns the user id in the cookie, or null. This login is only an example: it trusts the cookie. */
export async function sessionId(): Promise<string | null> {
  const value = (await cookies()).get(COOKIE)?.value;
  return isId(value) ? value : null;
}

export async function findUser(id: string): Promise<User | null> {
  const rows = await query<User>(`select id, name, handle from "user" where id = $1`, [id]);
  return rows[0] ?? null;
}

/** Reads some users for the login page, each with their favourite topics. */
export async function listCandidates(): Promise<Candidate[]> {
  return query<Candidate>(
    `select u.id, u.name, u.handle, t.topics, t.interactions
     from (select * from "user" order by created_at, id limit 6) u,
     lateral (
       select array_agg(s.topic order by s.count desc) filter (where s.rank <= 3) as topics,
         sum(s.count)::int as interactions
       from (
         select p.topic, count(*), row_number() over (order by count(*) desc) as rank
         from user_interaction i
         join post p on p.id = i.post_id
         where i.user_id = u.id
         group by p.topic
       ) s
     ) t
     where t.topics is not null`,
    [],
  );
}

export async function createUser(): Promise<string> {
  const id = randomUUID();
  const name = NEWCOMERS[randomInt(NEWCOMERS.length)];
  await query(`insert into "user" (id, name, handle) values ($1, $2, $3)`, [id, name, `new.${id.slice(0, 8)}`]);
  return id;
}

export async function logIn(id: string): Promise<void> {
  (await cookies()).set(COOKIE, id, { httpOnly: true, sameSite: "lax", path: "/" });
}

export async function logOut(): Promise<void> {
  (await cookies()).delete(COOKIE);
}
