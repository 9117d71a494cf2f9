/** Tests the feed in a real browser on a real database: the page that a user sees, and then the rows in the database. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  admin,
  application,
  becomeKnown,
  becomeNewcomer,
  context,
  database,
  isOnScreen,
  page,
  PHONE,
  pool,
  post,
  recorded,
  reopen,
  shoot,
  shown,
  TEAM,
  title,
  until,
  visible,
} from "./stage.mjs";

/**
 * @param {string} user
 * @param {string} variant
 */
async function isOfVariant(user, variant) {
  const { rows } = await pool.query("select recdb.variant($1, 'fresher') as variant", [user]);
  return rows[0].variant === variant;
}

/** Likes three posts of the topic with the most posts on the page. */
async function likeThreeOfOneTaste() {
  const posts = await shown();
  const ofTopic = (/** @type {string} */ topic) => posts.filter((post) => post.topic === topic);
  const topics = posts.map(({ topic }) => topic).sort((a, b) => ofTopic(b).length - ofTopic(a).length);
  const topic = topics[0] ?? "";
  const liked = ofTopic(topic).slice(0, 3).map(({ id }) => id);
  assert.equal(liked.length, 3, "three posts of one taste");
  for (const id of liked) await post(id).getByRole("button", { name: "Like", exact: true }).click();
  return { topic, liked };
}

test("a newcomer sees recent posts, likes three of one taste, and the feed is theirs", async () => {
  await page.goto("/login");
  await page.getByRole("button", { name: "Somebody new" }).waitFor();
  await shoot("login");
  let user = await becomeNewcomer();
  // The other variant mixes more topics, because it prefers new posts more.
  while (!(await isOfVariant(user, "usual"))) user = await becomeNewcomer();
  await title("random").getByText("In random order").waitFor();
  await shoot("fallback");
  const { topic, liked } = await likeThreeOfOneTaste();
  await until(async () => (await recorded(user, "like")).length === 3);
  assert.deepEqual(await recorded(user, "like"), liked.toSorted());

  await page.getByRole("button", { name: "Your own feed is ready" }).click();
  await title("ml_recommendations").waitFor();
  const feed = await shown();
  const first = feed.slice(0, 10);
  assert.ok(first.filter((post) => post.topic === topic).length >= 4, `much of ${topic}: ${first.map((p) => p.topic)}`);
  assert.ok(!feed.some(({ id }) => liked.includes(id)), "liked posts are gone");

  await page.reload();
  await title("ml_recommendations").waitFor();
  assert.ok(!(await shown()).some(({ id }) => liked.includes(id)), "liked posts stay gone");
});

test("scrolling repeats nothing", async () => {
  await becomeKnown();
  assert.equal((await shown()).length, 50);
  await page.locator(".post").nth(49).scrollIntoViewIfNeeded();
  await until(async () => (await shown()).length >= 100);
  const ids = (await shown()).map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
});

test("a view counts after a second, once", async () => {
  const user = await becomeKnown(1);
  await page.clock.install();
  await page.reload();
  const seen = (await shown()).slice(0, 3).map(({ id }) => id);
  const before = new Map();
  for (const id of await recorded(user, "view")) before.set(id, (before.get(id) ?? 0) + 1);
  const times = async () => {
    const views = await recorded(user, "view");
    return seen.map((id) => views.filter((view) => view === id).length - (before.get(id) ?? 0));
  };
  await until(async () => (await times()).every((count) => count === 1));
  await page.locator(".post").nth(20).scrollIntoViewIfNeeded();
  const last = (await shown())[20]?.id ?? "";
  await until(async () => (await recorded(user, "view")).includes(last));
  await page.evaluate(() => window.scrollTo(0, 0));
  await isOnScreen(page.locator(".post").first());
  await page.clock.fastForward(5_000);
  await post(last).getByRole("button", { name: "Share", exact: true }).dispatchEvent("click");
  await until(async () => (await recorded(user, "share")).includes(last));
  assert.deepEqual(await times(), [1, 1, 1]);
});

test("a view is half of a post for a second; views are sent together", async () => {
  const user = await becomeKnown();
  await page.addInitScript(() => {
    const real = window.fetch;
    const calls = (window.calls = /** @type {string[]} */ ([]));
    window.fetch = (input, init) => {
      calls.push(`${init?.method ?? "GET"} ${input}`);
      return real(input, init);
    };
  });
  await page.clock.install();
  await page.reload();
  const like = page.locator(".post").first().getByRole("button", { name: "Like", exact: true });
  await like.click();
  await page.locator('.post [aria-pressed="true"]').waitFor();
  await page.clock.pauseAt(Date.now() + 60_000);

  await page.locator(".post").nth(12).evaluate((post) => {
    const { top, height } = post.getBoundingClientRect();
    window.scrollTo(0, window.scrollY + top + 0.7 * height);
    window.calls.length = 0;
  });
  await isOnScreen(page.locator(".post").nth(14));
  const posts = await visible();
  const seen = posts.filter(({ share }) => share >= 0.5).map(({ id }) => id);
  assert.ok(seen.length >= 4 && posts.some(({ share }) => share > 0 && share < 0.5));

  const calls = (/** @type {string} */ start) =>
    page.evaluate((start) => window.calls.filter((call) => call.startsWith(start)), start);
  await page.clock.runFor(900);
  assert.deepEqual(await calls("GET /api/why"), []);
  await page.clock.runFor(200);
  const asked = (await calls("GET /api/why")).map((call) => call.split("post_id=")[1]);
  assert.deepEqual(asked.toSorted(), seen.toSorted());

  await until(async () => {
    await page.clock.runFor(500);
    const views = await recorded(user, "view");
    return seen.every((id) => views.includes(id));
  });
  assert.ok((await calls("POST /api/interactions")).length < seen.length);
});

test("a view while the page closes is recorded", async () => {
  const user = await becomeNewcomer();
  const id = (await shown())[0]?.id ?? "";
  await post(id).getByRole("button", { name: "Share", exact: true }).click();
  await page.goto("about:blank");
  await until(async () => (await recorded(user, "share")).includes(id));
});

test("a like can be taken back", async () => {
  const user = await becomeNewcomer();
  const id = (await shown())[0]?.id ?? "";
  const button = post(id).getByRole("button", { name: "Like", exact: true });
  await button.click();
  await until(async () => (await recorded(user, "like")).length === 1);
  await button.click();
  await until(async () => (await recorded(user, "like")).length === 0);
  assert.equal(await button.getAttribute("aria-pressed"), "false");
});

test("every recommendation says why", async () => {
  await becomeKnown(2);
  let most = 0;
  for (const position of [0, 1, 2, 3, 4]) {
    const each = page.locator(".post").nth(position);
    await each.getByRole("button", { name: "Why this?" }).click();
    const reasons = each.getByRole("region", { name: "Why this post?" }).getByRole("listitem");
    await reasons.first().waitFor();
    const shares = await reasons.locator(".percent").allInnerTexts();
    const total = shares.reduce((sum, share) => sum + (Number.parseInt(share) || 0), 0);
    assert.ok(total >= 50 && total <= 102, shares.join());
    most = Math.max(most, shares.length);
  }
  assert.ok(most >= 2, "some have several reasons");
});

test("a follow is a reason too", async () => {
  const { rows } = await pool.query(
    `select f.follower_id as user, r.item_id as post, a.name
     from (select * from follow order by follower_id, following_id limit 300) f
     join "user" a on a.id = f.following_id
     cross join lateral recommend(f.follower_id, 1, scenario => 'home') r
     cross join lateral recdb.explain(f.follower_id, r.item_id) e
     where e.because_id = f.following_id and e.contribution < r.score / 2
     order by e.contribution desc
     limit 1`,
  );
  const [{ user, post: first, name }] = rows;
  await context.addCookies([{ name: "user", value: user, url: application.url }]);
  await page.goto("/");
  await title("ml_recommendations").waitFor();
  assert.equal((await shown())[0]?.id, first);
  await post(first).getByRole("button", { name: "Why this?" }).click();
  await post(first).getByText(`You follow ${name}`).waitFor();
  await shoot("personal");
});

test("on a phone, in the dark", async () => {
  await reopen({ ...PHONE, colorScheme: "dark" });
  await becomeKnown(3);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.equal(overflow, 0);
  const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.match(background, /^rgb\((\d|[1-4]\d), /);
  await shoot("phone-dark");
});

test("the database stops: the feed says so, and recovers by itself", async () => {
  await becomeKnown(4);
  await database.tell("stop");
  const response = await page.request.get("/api/feeds");
  assert.equal(response.status(), 503);
  assert.deepEqual(await response.json(), { error: "the feed cannot be reached right now" });
  const authorization = `Basic ${btoa(`${TEAM.username}:${TEAM.password}`)}`;
  const figures = await page.request.get("/experiment", { headers: { authorization } });
  assert.match(await figures.text(), /The figures cannot be read right now/);
  await page.reload();
  await page.getByText("The feed cannot be reached right now").waitFor();
  await shoot("stopped");
  await database.tell("start");
  await title("ml_recommendations").waitFor();
  await page.locator(".who").waitFor();
  assert.equal((await shown()).length, 50);
});

test("recommend() fails: recent posts instead", async () => {
  await becomeKnown(5);
  await admin.query("revoke recdb_reader from feed");
  try {
    await page.reload();
    await title("random").waitFor();
    assert.equal((await shown()).length, 50);
  } finally {
    await admin.query("grant recdb_reader to feed");
  }
});

test("GET /api/feeds: pages, where they come from, and refusals", async () => {
  assert.equal((await page.request.get("/api/feeds")).status(), 401);
  await becomeKnown();
  const read = async (/** @type {string} */ query) => (await page.request.get(`/api/feeds?${query}`)).json();
  const both = await read("limit=20");
  const [first, second] = [await read("limit=10"), await read("limit=10&offset=10")];
  assert.equal(both.source, "ml_recommendations");
  assert.match(both.model_version, /^collaborative_filtering_v\d+$/);
  const ids = (/** @type {{ posts: { id: string }[] }} */ { posts }) => posts.map(({ id }) => id);
  assert.deepEqual([...ids(first), ...ids(second)], ids(both));
  for (const query of ["limit=0", "limit=101", "limit=ten", "limit=1.5", "offset=-1", "offset=1e3"]) {
    const response = await page.request.get(`/api/feeds?${query}`);
    assert.deepEqual([response.status(), await response.json()], [400, { error: "invalid request" }], query);
  }

  await becomeNewcomer();
  const random = await read("limit=5");
  assert.deepEqual([random.source, random.model_version, random.posts.length], ["random", null, 5]);
});

test("a body that is no list of interactions is refused and records nothing", async () => {
  const user = await becomeNewcomer();
  const id = (await shown())[0]?.id ?? "";
  const good = { id: crypto.randomUUID(), post_id: id, interaction_type: "click" };
  const bad = [
    null,
    {},
    { interactions: [] },
    { interactions: "all" },
    { interactions: [good, { ...good, interaction_type: "buy" }] },
    { interactions: [{ ...good, post_id: "'; drop table post; --" }] },
    { interactions: [{ ...good, id: 7 }] },
    { interactions: Array(101).fill(good) },
  ];
  for (const data of bad) {
    const response = await page.request.post("/api/interactions", { data });
    assert.equal(response.status(), 400, JSON.stringify(data)?.slice(0, 80));
  }
  for (let time = 0; time < 2; time++) {
    const response = await page.request.post("/api/interactions", { data: { interactions: [good] } });
    assert.equal(response.status(), 204);
  }
  assert.deepEqual(await recorded(user, "click"), [id]);
});
