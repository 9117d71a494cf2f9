/** Starts a temporary database, the built application and a browser for the tests, all on loopback. */

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const HERE = import.meta.dirname;
const PYTHON = process.env.PYTHON ?? join(HERE, "../../../.venv/bin/python");
const SERVE = join(HERE, "../../application/serve.py");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** @returns {Promise<number>} a free port */
async function findPort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/**
 * Starts the database. It ends with its standard input, so also if this process dies.
 * @param {string[]} sizes arguments of serve.py
 */
export async function startDatabase(sizes) {
  const child = spawn(PYTHON, [SERVE, ...sizes], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "exit");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error("the database ended");
    return String(value);
  };
  const [, url] = (await next()).split(" ");
  if (url === undefined) throw new Error("the database gave no URL");
  /** @param {"stop" | "start"} command */
  const tell = async (command) => {
    child.stdin.write(`${command}\n`);
    await next();
  };
  return {
    url,
    tell,
    async end() {
      child.stdin.end();
      await ended;
    },
  };
}

/**
 * Start the built application.
 * @param {string} databaseUrl
 * @param {Record<string, string>} settings further environment variables
 */
export async function startApplication(databaseUrl, settings = {}) {
  const port = await findPort();
  const next = join(HERE, "../node_modules/next/dist/bin/next");
  const child = spawn(process.execPath, [next, "start", "-H", "127.0.0.1", "-p", String(port)], {
    cwd: join(HERE, ".."),
    env: { ...process.env, ...settings, DATABASE_URL: databaseUrl, NEXT_TELEMETRY_DISABLED: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (log += data));
  const ended = once(child, "exit");
  const url = `http://127.0.0.1:${port}`;
  const answers = async () => (await fetch(`${url}/login`).catch(() => undefined))?.ok ?? false;
  while (!(await answers())) {
    if (child.exitCode !== null) throw new Error(`the application ended: ${log}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return {
    url,
    async end() {
      child.kill();
      await ended;
    },
  };
}

/**
 * Runs a command of recdb and returns what it prints.
 * @param {string[]} command
 */
export async function recdb(...command) {
  const { stdout } = await promisify(execFile)(PYTHON, ["-m", "recdb.cli", ...command]);
  return stdout;
}

export async function startBrowser() {
  const profile = await mkdtemp(join(tmpdir(), "recdb-example-browser-"));
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
    env: { ...process.env, HOME: profile },
  });
  return {
    browser,
    async end() {
      await browser.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}
