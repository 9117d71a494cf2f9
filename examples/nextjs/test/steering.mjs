/** Tests how the feed is steered, what it records about the posts on the screen, and how users hide posts. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  admin,
  becomeKnown,
  becomeNewcomer,
  becomeReaderOf,
  context,
  impressions,
  isOnScreen,
  page,
  pool,
  post,
  recorded,
  shoot,
  shown,
  title,
  until,
  visible,
} from "./stage.mjs";

/**
 * Counts the posts of the author who has most of them.
 * @param {{ author: string }[]} posts
 */
function mostOfOneAuthor(posts) {
  const counts = new Map();
  for (const { author } of posts) counts.set(author, (counts.get(author) ?? 0) + 1);
  return Math.max(...counts.values());
}

test("at most two posts of one author, also further down", async () => {
  const user = await becomeKnown();
  const { rows } = await pool.query(
    "select p.user_id as author from recommend($1, 50) r join post p on p.id = r.item_id",
    [user],
  );
  assert.ok(mostOfOneAuthor(rows) > 2, "without the scenario there are more");
  await page.locator(".post").nth(49).scrollIntoViewIfNeeded();
  await until(async () => (await shown()).length >= 100);
  assert.equal(await page.locator(".divider").count(), 0, "all of them are picked for the user");
  assert.equal(mostOfOneAuthor(await shown()), 2);

  await becomeNewcomer();
  assert.ok(mostOfOneAuthor(await shown()) <= 2);
});

test("newer posts come first, as much as the scenario says, and the feed says so", async () => {
  const user = await becomeReaderOf("fresh");
  const age = (/** @type {string} */ scenario) =>
    pool
      .query(
        `select avg(extract(epoch from now() at time zone 'utc' - p.created_at))::float8 / 86400 as days
         from recommend($1, 10, scenario => $2) r join post p on p.id = r.item_id`,
        [user, scenario],
      )
      .then(({ rows }) => rows[0].days);
  const times = await page.locator(".post time").evaluateAll((times) =>
    times.slice(0, 10).map((time) => /** @type {HTMLTimeElement} */ (time).dateTime),
  );
  const days = times.reduce((sum, time) => sum + (Date.now() - Date.parse(time)) / 86_400_000, 0) / times.length;
  const before = await age("default");
  assert.ok(days < before, `${days} days, ${before} without the scenario`);

  const old = page.locator(".post").filter({ has: page.locator("time", { hasText: /^\d+d$/ }) }).first();
  await old.getByRole("button", { name: "Why this?" }).click();
  await old.getByText(/Newer posts come first: its age took \d+.% off/).waitFor();

  await admin.query("update recdb.scenario set freshness = null where name = 'home-fresh'");
  try {
    await page.reload();
    await title("ml_recommendations").waitFor();
    assert.equal(await page.getByText("Newer posts come first").count(), 0);
    await page.locator(".post").first().getByRole("button", { name: "Why this?" }).click();
    await page.locator(".reasons li").first().waitFor();
    assert.equal(await page.getByText("Newer posts come first").count(), 0, "the next call follows an update");
  } finally {
    await admin.query("update recdb.scenario set freshness = '7 days' where name = 'home-fresh'");
  }
});

test("what was on the screen is an impression, once; what was not is none", async () => {
  const user = await becomeReaderOf("fresh", 1);
  const posts = await shown();
  /** @type {number[]} */
  const sent = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/api/impressions")) sent.push(request.postDataJSON().impressions.length);
  });
  const seen = (await visible()).filter(({ share }) => share >= 0.5).map(({ id }) => id);
  await page.locator(".post").nth(30).evaluate((element) => element.scrollIntoView());
  await isOnScreen(page.locator(".post").nth(30));
  seen.push(...(await visible()).filter(({ share }) => share >= 0.5).map(({ id }) => id));
  await page.evaluate(() => window.scrollTo(0, 0));
  await isOnScreen(page.locator(".post").first());
  await until(async () => (await impressions(user)).length >= seen.length);

  const rows = await impressions(user);
  assert.deepEqual(rows.map((row) => row.post_id).toSorted(), seen.toSorted());
  assert.ok(seen.length >= 8 && sent.length < seen.length, `${sent.length} requests for ${seen.length} posts`);
  const version = await page.locator(".title code").innerText();
  for (const { post_id, ...row } of rows) {
    const place = posts.findIndex(({ id }) => id === post_id) + 1;
    const expected = { scenario: "home", place, model_version: version, experiment: "fresher", variant: "fresh" };
    assert.deepEqual(row, expected);
  }
});

test("a post that scrolls by is an impression and no view", async () => {
  const user = await becomeKnown(1);
  await page.clock.install();
  await page.reload();
  const like = page.locator(".post").first().getByRole("button", { name: "Like", exact: true });
  await like.click();
  await page.locator('.post [aria-pressed="true"]').waitFor();
  await page.clock.pauseAt(Date.now() + 60_000);
  const far = page.locator(".post").nth(35);
  await far.evaluate((element) => element.scrollIntoView());
  await isOnScreen(far);
  await page.clock.runFor(400);
  await page.evaluate(() => window.scrollTo(0, 0));
  await isOnScreen(page.locator(".post").first());
  const id = (await shown())[35]?.id ?? "";
  await until(async () => {
    await page.clock.runFor(500);
    return (await impressions(user)).some(({ post_id }) => post_id === id);
  });
  const first = (await shown())[0]?.id ?? "";
  await until(async () => {
    await page.clock.runFor(500);
    return (await recorded(user, "view")).includes(first);
  });
  assert.ok(!(await recorded(user, "view")).includes(id));
});

test("an impression while the page closes is recorded, and recent posts are in no experiment", async () => {
  const user = await becomeNewcomer();
  const seen = (await visible()).filter(({ share }) => share >= 0.5).map(({ id }) => id);
  for (const id of seen) await isOnScreen(post(id));
  await page.goto("about:blank");
  await until(async () => (await impressions(user)).length > 0);
  for (const row of await impressions(user)) {
    assert.ok(seen.includes(row.post_id));
    assert.deepEqual([row.scenario, row.experiment, row.variant], ["recent", null, null]);
  }
});

test("what a user is not interested in leaves at once and stays away", async () => {
  const user = await becomeKnown(3);
  const { rows } = await admin.query("select weight, hides from recdb.interaction_kind where kind = 'not_interested'");
  assert.ok(rows[0].weight < 0 && rows[0].hides);
  const [above, hidden] = await shown();
  assert.ok(above && hidden);
  await post(hidden.id).getByRole("button", { name: "Not interested" }).click();
  assert.equal(await post(hidden.id).count(), 0);
  await page.getByRole("status").getByText("You will see fewer posts like that one").waitFor();
  assert.ok(await page.getByRole("button", { name: "Undo" }).evaluate((button) => button === document.activeElement));
  await post(above.id).getByRole("button", { name: "Why this?" }).click();
  await post(above.id).getByRole("listitem").first().waitFor();
  await shoot("not-interested");
  await until(async () => (await recorded(user, "not_interested")).includes(hidden.id));

  await page.reload();
  await title("ml_recommendations").waitFor();
  assert.equal(await post(hidden.id).count(), 0);
  assert.equal(await page.getByRole("button", { name: "Undo" }).count(), 0);
  await page.locator(".post").nth(49).scrollIntoViewIfNeeded();
  await until(async () => (await shown()).length >= 100);
  assert.equal(await post(hidden.id).count(), 0, "nor does it come further down");
});

for (const feed of /** @type {const} */ (["a personal feed", "recent posts"])) {
  test(`"not interested" can be taken back in ${feed}`, async () => {
    await page.clock.install();
    const user = await (feed === "recent posts" ? becomeNewcomer() : becomeKnown(4));
    await page.clock.pauseAt(Date.now() + 60_000);
    const id = (await shown())[30]?.id ?? "";
    assert.ok(!(await recorded(user, "view")).includes(id));
    await post(id).getByRole("button", { name: "Not interested" }).click();
    await until(async () => (await recorded(user, "not_interested")).includes(id));
    const served = async () => {
      const answer = await (await page.request.get("/api/feeds?limit=100")).json();
      return answer.posts.some((/** @type {{ id: string }} */ each) => each.id === id);
    };
    assert.equal(await served(), false);
    await page.getByRole("button", { name: "Undo" }).click();
    await post(id).waitFor();
    await until(async () => !(await recorded(user, "not_interested")).includes(id));
    // With the views of the posts above it, the newcomer's feed may be a personal one by now.
    if (feed === "a personal feed") assert.equal(await served(), true);
  });
}

test("impressions that cannot be meant are refused; those of unknown posts record nothing", async () => {
  const user = await becomeNewcomer();
  const { posts, scenario, model_version, served_at } = await (await page.request.get("/api/feeds?limit=1")).json();
  const good = { post_id: posts[0].id, place: 20_000, scenario, model_version, served_at };
  const bad = [
    null,
    {},
    { impressions: [] },
    { impressions: good },
    { impressions: [{ ...good, place: 0 }] },
    { impressions: [{ ...good, place: 1.5 }] },
    { impressions: [good, { ...good, scenario: "mail" }] },
    { impressions: [{ ...good, served_at: "yesterday" }] },
    { impressions: [{ ...good, served_at: "2020-01-01T00:00:00Z" }] },
    { impressions: [{ ...good, model_version: "'; drop table post; --" }] },
    { impressions: Array(101).fill(good) },
  ];
  for (const data of bad) {
    const response = await page.request.post("/api/impressions", { data });
    assert.equal(response.status(), 400, JSON.stringify(data)?.slice(0, 80));
  }
  const unknown = { ...good, post_id: crypto.randomUUID(), place: 20_001 };
  const response = await page.request.post("/api/impressions", { data: { impressions: [unknown, good] } });
  assert.equal(response.status(), 204);
  const places = (await impressions(user)).map(({ place }) => place).filter((place) => place >= 20_000);
  assert.deepEqual(places, [20_000]);

  for (const data of [null, {}, { post_id: good.post_id }, { post_id: good.post_id, interaction_type: "view" }]) {
    assert.equal((await page.request.delete("/api/interactions", { data })).status(), 400);
  }
  await context.clearCookies();
  assert.equal((await page.request.post("/api/impressions", { data: { impressions: [good] } })).status(), 401);
});
