/** Measures GET /api/feeds?limit=50 with one client and 10,000 users, through Next.js and PostgreSQL. */

import pg from "pg";
import { startApplication, startDatabase } from "./harness.mjs";

const WARM_UP = 50;
const REQUESTS = 500;

const database = await startDatabase([]);
const application = await startApplication(database.url);
const client = new pg.Client(database.url);
await client.connect();
const { rows } = await client.query(
  `select user_id, count(distinct post_id)::int as seen from user_interaction
   group by user_id order by md5(user_id) limit $1`,
  [WARM_UP + REQUESTS],
);
await client.end();

/** @type {number[]} */
const times = [];
let posts = 0;
for (const { user_id } of rows) {
  const began = performance.now();
  const response = await fetch(`${application.url}/api/feeds?limit=50`, { headers: { cookie: `user=${user_id}` } });
  const page = await response.json();
  times.push(performance.now() - began);
  if (page.source !== "ml_recommendations") throw new Error(`not personal: ${JSON.stringify(page).slice(0, 200)}`);
  posts += page.posts.length;
}
const measured = times.slice(WARM_UP).sort((a, b) => a - b);
const at = (/** @type {number} */ share) => measured[Math.floor(share * (measured.length - 1))]?.toFixed(1);
console.log(`${(posts / rows.length).toFixed(1)} posts a page: median ${at(0.5)} ms, p95 ${at(0.95)} ms, max ${at(1)} ms`);
await application.end();
await database.end();
