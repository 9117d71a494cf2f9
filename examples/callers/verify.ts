import assert from "node:assert/strict";

/** Asks recommend() for five posts without the excluded ones and returns the posts' ids. */
export type Ask = (exclude: string[]) => Promise<string[]>;
export type AskForAll = () => Promise<string[]>;

export const url = process.env.DATABASE_URL ?? "";
export const user = process.env.USER_ID ?? "";

const AWKWARD = ['a "quoted", {id}', "it's", "back\\slash", ""];

/** Compares every spelling of a call with the plain call. */
export async function verify(
  plain: AskForAll,
  excluding: Record<string, Ask>,
  excludingNothing: Record<string, AskForAll> = {},
): Promise<void> {
  const all = await plain();
  assert.equal(all.length, 5);
  assert.equal(new Set(all).size, 5);
  for (const [name, ask] of Object.entries(excluding)) {
    assert.deepEqual(await ask([]), all, `${name}, empty`);
    assert.deepEqual((await ask(all.slice(0, 2))).slice(0, 3), all.slice(2), `${name}, two ids`);
    assert.deepEqual((await ask([...AWKWARD, ...all.slice(0, 1)])).slice(0, 4), all.slice(1), `${name}, awkward ids`);
  }
  for (const [name, ask] of Object.entries(excludingNothing)) {
    assert.deepEqual(await ask(), all, name);
  }
}
