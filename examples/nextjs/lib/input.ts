import type { Interaction, Kind } from "@/lib/types";

/** Parsers for the values of a request. Each returns undefined for an invalid value. */

const KINDS: readonly string[] = ["view", "click", "like", "share"] satisfies Kind[];
export const MOST_EXCLUDED = 2_000;
const MOST_INTERACTIONS = 100;
const MOST_RANKED = 1_000;

export function isId(value: unknown): value is string {
  return typeof value === "string" && /^[\w-]{1,64}$/.test(value);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function toInteger(value: unknown, fallback: number, least: number, most: number): number | undefined {
  if (value === null || value === undefined) return fallback;
  const number = typeof value === "string" && /^\d{1,6}$/.test(value) ? Number(value) : value;
  return typeof number === "number" && Number.isInteger(number) && number >= least && number <= most
    ? number
    : undefined;
}

export function toAsked(limit: unknown, offset: unknown, exclude: unknown) {
  const asked = {
    limit: toInteger(limit, 50, 1, 100),
    offset: toInteger(offset, 0, 0, MOST_RANKED - 100),
    exclude: exclude ?? [],
  };
  if (asked.limit === undefined || asked.offset === undefined) return undefined;
  if (!Array.isArray(asked.exclude) || asked.exclude.length > MOST_EXCLUDED || !asked.exclude.every(isId)) {
    return undefined;
  }
  return { limit: asked.limit, offset: asked.offset, exclude: asked.exclude };
}

function toInteraction(value: unknown): Interaction | undefined {
  if (!isObject(value) || !isId(value.id) || !isId(value.post_id)) return undefined;
  const kind = value.interaction_type;
  if (typeof kind !== "string" || !KINDS.includes(kind)) return undefined;
  return { id: value.id, post_id: value.post_id, interaction_type: kind as Kind };
}

export function toInteractions(body: unknown): Interaction[] | undefined {
  if (!isObject(body) || !Array.isArray(body.interactions)) return undefined;
  const known = body.interactions.map(toInteraction);
  if (known.length === 0 || known.length > MOST_INTERACTIONS) return undefined;
  return known.every((interaction) => interaction !== undefined) ? known : undefined;
}

export function toPostId(body: unknown): string | undefined {
  return isObject(body) && isId(body.post_id) ? body.post_id : undefined;
}
