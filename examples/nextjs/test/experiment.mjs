/** Tests the experiment between two scenarios: the lists that users get, and the page with its figures. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import pg from "pg";
import { recdb } from "./harness.mjs";
import { admin, becomeReaderOf, database, page, PHONE, pool, reopen, shoot, shown, TEAM } from "./stage.mjs";

const VISITS = join(import.meta.dirname, "../../application/visits.sql");
const DESKTOP = { viewport: { width: 800, height: 900 }, httpCredentials: TEAM };

/** @param {string} text */
function section(text) {
  return page.locator(`.kind[data-kind="${text}"]`);
}

/**
 * Starts an experiment on a place that no page shows, and records impressions of so many users for each variant.
 * @param {string} name
 * @param {Record<string, number>} users
 */
async function compare(name, users) {
  await admin.query("insert into recdb.experiment (name, scenario) values ($1, $1)", [name]);
  await admin.query("insert into recdb.experiment_variant (experiment, name) select $1, unnest($2::text[])", [
    name,
    Object.keys(users),
  ]);
  await admin.query("select recdb.start_experiment($1)", [name]);
  for (const [variant, count] of Object.entries(users)) {
    await admin.query(
      `select count(recdb.impressions($1 || n, array(select id from post order by id limit 3), $2, variant => $3))
       from generate_series(1, $4::int) n`,
      [`${name}-${variant}-`, name, variant, count],
    );
  }
  await admin.query("call recdb.refresh()");
}

/**
 * @param {string} user
 * @param {string} scenario
 * @returns {Promise<string[]>} the posts that recommend() gives
 */
async function recommended(user, scenario) {
  const { rows } = await pool.query(
    "select item_id from recommend($1, 50, scenario => $2) r order by r.score desc, r.item_id",
    [user, scenario],
  );
  return rows.map(({ item_id }) => item_id);
}

for (const variant of /** @type {const} */ (["usual", "fresh"])) {
  test(`readers of the variant ${variant} get its list, and the application asks for the same one`, async () => {
    const user = await becomeReaderOf(variant, 2);
    const ids = (await shown()).map(({ id }) => id);
    const fresh = await recommended(user, "home-fresh");
    if (variant === "fresh") assert.deepEqual(ids, fresh);
    else assert.notDeepEqual(ids, fresh);
    assert.deepEqual(ids, await recommended(user, "home"));
  });
}

test("the page of figures asks for the team's password", async () => {
  const response = await page.request.get("/experiment");
  assert.equal(response.status(), 401);
  assert.match(response.headers()["www-authenticate"] ?? "", /^Basic /);
  for (const code of ["team:wrong", TEAM.password, ":", `${TEAM.password}:`]) {
    const headers = { authorization: `Basic ${btoa(code)}` };
    assert.equal((await page.request.get("/experiment", { headers })).status(), 401, code);
  }
  await reopen(DESKTOP);
  assert.equal((await page.goto("/experiment"))?.status(), 200);
  assert.equal((await page.goto("/experiment?name=unknown"))?.status(), 404);
});

test("the application's role reads no figures, and the product team's no user's data", async () => {
  const denied = { code: "42501" };
  await assert.rejects(pool.query("select * from recdb.experiment_sums('fresher')"), denied);
  await assert.rejects(pool.query("select * from recdb.experiment"), denied);
  const product = new pg.Client(database.url.replace("feed@", "product@"));
  await product.connect();
  try {
    for (const table of ["user_interaction", '"user"', "recdb.impression", "recdb.interactions", "recdb.user_vectors"]) {
      await assert.rejects(product.query(`select * from ${table}`), denied, table);
    }
    await assert.rejects(product.query("select * from recommend('somebody')"), denied);
  } finally {
    await product.end();
  }
});

/** @typedef {{ kind: string, variant: string, rate: number, rate_low: number, rate_high: number,
 *   change: number | null, change_low: number, change_high: number, verdict: string | null }} Comparison */

test("the figures are those of `recdb experiment show`, with a picture and in words", async () => {
  await admin.query(await readFile(VISITS, "utf8"));
  await admin.query("call recdb.refresh()");
  const url = database.url.replace("feed@", "postgres@");
  const expected = JSON.parse(await recdb("experiment", "show", "fresher", "--json", "--url", url));
  await reopen(DESKTOP);
  await page.goto("/experiment?name=fresher");
  const plain = (/** @type {string} */ text) => text.replaceAll(/[\u2009,]/g, "").replaceAll("\u00a0", " ").replaceAll("−", "-");

  for (const { name, users, impressions } of expected.variants) {
    const cells = await page.locator(`tr[data-variant="${name}"] td`).allInnerTexts();
    assert.deepEqual(cells.map(plain), ["50%", String(users), String(impressions)]);
  }
  const split = plain(await page.locator(".split").innerText());
  assert.match(split, /split as planned/);
  assert.ok(split.includes(`p = ${expected.split_p_value.toFixed(2)}`), split);

  const verdicts = new Map();
  const points = (/** @type {number} */ share) => `${share < 0 ? "-" : "+"}${Math.abs(100 * share).toFixed(2)}`;
  for (const each of /** @type {Comparison[]} */ (expected.kinds)) {
    const own = section(each.kind);
    const rate = plain(await own.locator(`.outcome[data-variant="${each.variant}"]`).innerText());
    for (const share of [each.rate, each.rate_low, each.rate_high]) assert.ok(rate.includes((100 * share).toFixed(2)), rate);
    if (each.change === null) continue;
    const change = plain(await own.locator(`[data-change="${each.variant}"]`).innerText());
    for (const share of [each.change, each.change_low, each.change_high]) assert.ok(change.includes(points(share)), change);
    verdicts.set(each.kind, each.verdict);
    assert.equal(await own.locator(".verdict").getAttribute("class"), `verdict ${each.verdict}`);
  }
  assert.deepEqual([verdicts.get("like"), verdicts.get("share")], ["higher", "open"]);
  await section("like").getByText("Higher with fresh: the interval leaves out zero.").waitFor();
  await section("share").getByText("No difference shows yet: the interval has zero in it.").waitFor();
  assert.equal(await page.locator(".kind").first().getAttribute("data-kind"), "like");
  await shoot("experiment", { fullPage: true });

  await reopen({ ...PHONE, colorScheme: "dark", httpCredentials: TEAM });
  await page.goto("/experiment?name=fresher");
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth), 0);
  await shoot("experiment-phone", { scale: "css" });
});

test("without an experiment, a start or an impression, the page says what comes next", async () => {
  await reopen(DESKTOP);
  // With a policy on the table, the product team's role sees no row.
  await admin.query("alter table recdb.experiment enable row level security");
  try {
    await page.goto("/experiment");
    await page.getByRole("heading", { name: "No experiment yet" }).waitFor();
    await shoot("no-experiment");
  } finally {
    await admin.query("alter table recdb.experiment disable row level security");
  }
  await admin.query("insert into recdb.experiment (name, scenario) values ('later', 'later')");
  await page.goto("/experiment?name=later");
  await page.getByRole("heading", { name: "It has not started yet" }).waitFor();
  await page.getByText("Not started yet.").waitFor();
  await admin.query("delete from recdb.experiment where name = 'later'");

  await compare("quiet", { a: 0, b: 0 });
  await page.goto("/experiment?name=quiet");
  await page.getByRole("heading", { name: "No figures yet" }).waitFor();
  assert.equal(await page.getByText("split as planned").count(), 0);
});

test("with too few readers the page gives no interval", async () => {
  await reopen(DESKTOP);
  await compare("few", { a: 30, b: 30 });
  await page.goto("/experiment?name=few");
  await page.getByText("The readers are split as planned").waitFor();
  await page.getByText("Nobody has followed a post yet.").waitFor();
  await admin.query(
    `insert into recdb.interaction (user_id, item_id, kind)
     select u.user_id, (select min(id) from post), 'like' from recdb.user_key u where u.user_id like 'few-%'`,
  );
  await page.reload();
  const like = section("like");
  await like.getByText("Too few readers to say. Each variant needs 100, and 10 who did it.").waitFor();
  assert.equal(await like.locator(".interval").count(), 0);
  assert.equal(await like.getByText("33.33").count(), 2, "rates of three posts each");
});

test("a wrong split is said, and nothing is concluded from it", async () => {
  await reopen(DESKTOP);
  await compare("lost", { a: 300, b: 150 });
  await admin.query(
    `insert into recdb.interaction (user_id, item_id, kind)
     select u.user_id, p.id, 'like' from recdb.user_key u, (select min(id) as id from post) p
     where u.user_id like 'lost-b-%' or u.user_id like 'lost-a-%1'`,
  );
  await page.goto("/experiment?name=lost");
  const warning = page.getByRole("alert").filter({ hasText: "not split as planned" });
  await warning.getByText("The plan was 50").waitFor();
  assert.match(await warning.innerText(), /300 and 150 readers came.* of 1,000 experiments \(p\s=\s\de-\d+\)/);
  await section("like").getByText("The split is wrong, so this says nothing.").waitFor();
  assert.equal(await page.getByText("leaves out zero").count(), 0);
});

test("after the experiment every reader gets the usual list, and the figures stay", async () => {
  const user = await becomeReaderOf("fresh", 3);
  const during = await recommended(user, "home");
  await recdb("experiment", "stop", "fresher", "--url", database.url.replace("feed@", "postgres@"));
  const after = await recommended(user, "home");
  assert.notDeepEqual(after, during);
  await page.reload();
  assert.deepEqual((await shown()).map(({ id }) => id), after);

  await reopen(DESKTOP);
  await page.goto("/experiment");
  await page.getByRole("navigation", { name: "Experiments" }).getByRole("link", { name: "fresher" }).click();
  await page.getByRole("heading", { name: "fresher" }).waitFor();
  await page.getByText(/In home\. .* 20\d\d to .* 20\d\d\./).waitFor();
  await section("like").getByText("Higher with fresh").waitFor();
});
