import { SCENARIOS } from "@/lib/scenarios";
import type { Impression, Interaction, Kind, Revocable } from "@/lib/types";

/** Parsers for the values of a request. Each returns undefined for an invalid value. */

const KINDS: readonly string[] = ["view", "click", "like", "share", "not_interested"] satisfies Kind[];
const REVOCABLE: readonly string[] = ["like", "not_interested"] satisfies Revocable[];
export const MOST_EXCLUDED = 2_000;
const MOST_SENT = 100;
const MOST_PLACES = 30_000;
const DAY = 86_400_000;
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

/** Parses the list of a request's body: its name, and the parser of an element. */
function toList<Thing>(body: unknown, name: string, parse: (value: unknown) => Thing | undefined): Thing[] | undefined {
  const values = isObject(body) ? body[name] : undefined;
  if (!Array.isArray(values) || values.length === 0 || values.length > MOST_SENT) return undefined;
  const known = values.map(parse);
  return known.every((thing) => thing !== undefined) ? known : undefined;
}

export function toInteractions(body: unknown): Interaction[] | undefined {
  return toList(body, "interactions", toInteraction);
}

/** Parses an impression. A page that was made more than a day ago, or is still to come, is refused. */
function toImpression(value: unknown): Impression | undefined {
  if (!isObject(value) || !isId(value.post_id)) return undefined;
  const { post_id, scenario, model_version, served_at } = value;
  const place = toInteger(value.place, 0, 1, MOST_PLACES);
  if (!place || typeof scenario !== "string" || !SCENARIOS.includes(scenario)) return undefined;
  if (model_version !== null && !isId(model_version)) return undefined;
  const age = typeof served_at === "string" ? Date.now() - Date.parse(served_at) : Number.NaN;
  return Math.abs(age) < DAY ? { post_id, place, scenario, model_version, served_at: served_at as string } : undefined;
}

export function toImpressions(body: unknown): Impression[] | undefined {
  return toList(body, "impressions", toImpression);
}

export function toTakenBack(body: unknown): { post_id: string; interaction_type: Revocable } | undefined {
  if (!isObject(body) || !isId(body.post_id)) return undefined;
  const kind = body.interaction_type;
  if (typeof kind !== "string" || !REVOCABLE.includes(kind)) return undefined;
  return { post_id: body.post_id, interaction_type: kind as Revocable };
}
