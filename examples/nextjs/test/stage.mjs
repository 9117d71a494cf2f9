/** The stage of all tests: one database, one application and one browser, and a new page for each test. */

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, beforeEach } from "node:test";
import pg from "pg";
import { startApplication, startBrowser, startDatabase } from "./harness.mjs";

const SIZES = ["--users", "2000", "--posts", "1500", "--interactions", "100000"];
const SCREENSHOTS = process.env.SCREENSHOTS;
/** The product team's password, as a browser sends it. */
export const TEAM = { username: "team", password: "a: long password" };

/** @type {Awaited<ReturnType<typeof startDatabase>>} */
export let database;
/** @type {Awaited<ReturnType<typeof startApplication>>} */
export let application;
/** @type {Awaited<ReturnType<typeof startBrowser>>} */
export let chromium;
/** @type {pg.Pool} as the application's role */
export let pool;
/** @type {pg.Pool} as the owner of the database */
export let admin;
/** @type {import("playwright-core").BrowserContext} */
export let context;
/** @type {import("playwright-core").Page} */
export let page;
/** @type {string[]} */
let elsewhere;

before(async () => {
  database = await startDatabase(SIZES);
  pool = new pg.Pool({ connectionString: database.url });
  admin = new pg.Pool({ connectionString: database.url.replace("feed@", "postgres@") });
  for (const each of [pool, admin]) each.on("error", () => undefined);
  application = await startApplication(database.url, {
    PRODUCT_DATABASE_URL: database.url.replace("feed@", "product@"),
    PRODUCT_PASSWORD: TEAM.password,
  });
  chromium = await startBrowser();
  if (SCREENSHOTS) await mkdir(SCREENSHOTS, { recursive: true });
});

after(async () => {
  await chromium?.end();
  await application?.end();
  await pool?.end();
  await admin?.end();
  await database?.end();
});

beforeEach(async () => {
  elsewhere = [];
  await open({ viewport: { width: 800, height: 900 } });
});

/**
 * Opens a page in a new context.
 * @param {import("playwright-core").BrowserContextOptions} options
 */
async function open(options) {
  context = await chromium.browser.newContext({ baseURL: application.url, ...options });
  page = await context.newPage();
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== application.url) elsewhere.push(request.url());
  });
}

/**
 * Opens another page instead of the test's own one.
 * @param {import("playwright-core").BrowserContextOptions} options
 */
export async function reopen(options) {
  await context.close();
  await open(options);
}

export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

afterEach(async () => {
  await context.close();
  assert.deepEqual(elsewhere, [], "nothing is fetched from elsewhere");
});

/**
 * Takes a picture for the README, if asked for.
 * @param {string} name
 * @param {import("playwright-core").PageScreenshotOptions} options
 */
export async function shoot(name, options = {}) {
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), ...options });
}

/** @param {"random" | "ml_recommendations"} source */
export function title(source) {
  return page.locator(`.title[data-source=${source}]`);
}

export async function becomeNewcomer() {
  await page.goto("/login");
  await page.getByRole("button", { name: "Somebody new" }).click();
  await title("random").waitFor();
  return userId();
}

/** @param {number} position */
export async function becomeKnown(position = 0) {
  await page.goto("/login");
  await page.locator(".person:not(.newcomer)").nth(position).click();
  await title("ml_recommendations").waitFor();
  return userId();
}

export async function userId() {
  const cookie = (await context.cookies()).find(({ name }) => name === "user");
  assert.ok(cookie);
  return cookie.value;
}

/** @returns {Promise<{ id: string, topic: string, author: string }[]>} the posts on the page */
export function shown() {
  return page.locator(".post").evaluateAll((posts) =>
    posts.map((post) => {
      const { id = "", topic = "", author = "" } = /** @type {HTMLElement} */ (post).dataset;
      return { id, topic, author };
    }),
  );
}

/** @param {string} id */
export function post(id) {
  return page.locator(`.post[data-id="${id}"]`);
}

/**
 * @param {string} user
 * @param {string} kind
 * @returns {Promise<string[]>} ids of posts
 */
export async function recorded(user, kind) {
  const { rows } = await pool.query(
    "select post_id from user_interaction where user_id = $1 and interaction_type = $2 order by post_id",
    [user, kind],
  );
  return rows.map((row) => row.post_id);
}

/**
 * Wait until a condition holds.
 * @param {() => Promise<boolean>} condition
 */
export async function until(condition) {
  for (const deadline = Date.now() + 15_000; Date.now() < deadline; ) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail("it did not happen in time");
}

/**
 * Wait until observers of intersections have seen an element on the screen.
 * @param {import("playwright-core").Locator} locator
 */
export async function isOnScreen(locator) {
  await locator.evaluate(
    (element) =>
      new Promise((resolve) => {
        const observer = new IntersectionObserver(([entry]) => {
          if (!entry?.isIntersecting) return;
          observer.disconnect();
          resolve(undefined);
        });
        observer.observe(element);
      }),
  );
}

/** @returns {Promise<{ id: string, share: number }[]>} how much of each post is on the screen */
export function visible() {
  return page.locator(".post").evaluateAll((posts) =>
    posts.map((post) => {
      const { top, bottom, height } = post.getBoundingClientRect();
      const share = (Math.min(bottom, window.innerHeight) - Math.max(top, 0)) / height;
      return { id: /** @type {HTMLElement} */ (post).dataset.id ?? "", share };
    }),
  );
}

/**
 * Becomes a user who gets a variant of the experiment, and is none of those on the login page.
 * @param {"usual" | "fresh"} variant
 * @param {number} position among the users with this variant
 */
export async function becomeReaderOf(variant, position = 0) {
  const { rows } = await pool.query(
    `select id from "user" where recdb.variant(id, 'fresher') = $1 and handle not like 'new.%'
     order by created_at desc, id desc offset $2 limit 1`,
    [variant, position],
  );
  await context.addCookies([{ name: "user", value: rows[0].id, url: application.url }]);
  await page.goto("/");
  await title("ml_recommendations").waitFor();
  return userId();
}

/**
 * Reads the impressions of a user, also those that wait for a refresh.
 * @param {string} user
 * @returns {Promise<{ post_id: string, scenario: string, place: number, model_version: string,
 *   experiment: string | null, variant: string | null }[]>}
 */
export async function impressions(user) {
  const { rows } = await admin.query(
    `select item_id as post_id, scenario, place, model_version, experiment, variant
     from recdb.impression join recdb.user_key using (user_key) join recdb.item_key using (item_key)
     where user_id = $1
     union all
     select item_id, scenario, place, model_version, experiment, variant
     from recdb.impression_new
     where user_id = $1
     order by place`,
    [user],
  );
  return rows;
}
