import "server-only";
import { queryFigures } from "@/lib/database";
import { ALPHA, MISMATCH, type Range, type Sums, toChange, toRate, toRateRange, toSplitChance } from "@/lib/intervals";

export type Experiment = { name: string; scenario: string; started_at: Date | null; stopped_at: Date | null };

/** A variant, how its list is steered, and how many users got it. */
export type Variant = {
  name: string;
  share: number;
  model: string | null;
  freshness: string | null;
  most_of_author: number | null;
  users: number;
  impressions: number;
};

/** How often the users of a variant did something after they were shown a post. `change` is null for the control. */
export type Outcome = {
  variant: string;
  rate: number;
  range: Range | null;
  change: Range | "too few users" | null;
};

export type Figures = Experiment & {
  variants: Variant[];
  split: number;
  mismatch: boolean;
  /** How many users were shown several variants. They count nowhere. */
  crossed: number;
  kinds: { kind: string; outcomes: Outcome[] }[];
  counted_at: Date | null;
};

type VariantRow = Omit<Variant, "share" | "users" | "impressions"> & { weight: number };
type SumRow = {
  variant: string | null;
  kind: string | null;
  users: number;
  impressions: number | null;
  touched: number | null;
  xx: number | null;
  yy: number | null;
  xy: number | null;
};

const EMPTY: Sums = { users: 0, converted: 0, x: 0, xx: 0, y: 0, yy: 0, xy: 0 };

/** Lists the experiments, the newest first. */
export async function listExperiments(): Promise<Experiment[]> {
  return queryFigures<Experiment>(
    `select name, scenario, started_at, stopped_at
     from recdb.experiment
     order by started_at desc nulls last, name`,
    [],
  );
}

/** The variants, first the control: the one that names no model and no scenario of its own. */
const VARIANTS = `
  select v.name, v.weight::float8, v.model_version as model, s.freshness::text,
    s.max_per_owner as most_of_author
  from recdb.experiment e
  join recdb.experiment_variant v on v.experiment = e.name
  left join recdb.scenario s on s.name = coalesce(v.scenario, e.scenario)
  where e.name = $1
  order by v.model_version is not null or v.scenario is not null, v.name collate "C"`;

const SUMS = `
  select variant, kind, users::int, impressions::float8, touched::float8, xx, yy, xy
  from recdb.experiment_sums($1)`;

const COUNTED = `
  select max(finished_at) as counted_at
  from recdb.refresh_log
  where error is null and kind <> 'train'`;

function toSums(rows: SumRow[], variant: string, kind: string): Sums {
  const all = rows.find((row) => row.variant === variant && row.kind === null);
  if (all === undefined) return EMPTY;
  const sums = { ...EMPTY, users: all.users, x: all.impressions ?? 0, xx: all.xx ?? 0 };
  const some = rows.find((row) => row.variant === variant && row.kind === kind);
  if (some === undefined) return sums;
  return { ...sums, converted: some.users, y: some.touched ?? 0, yy: some.yy ?? 0, xy: some.xy ?? 0 };
}

/** Compares every variant with the first one. Several others share the 5 % of error. */
function compare(rows: SumRow[], variants: VariantRow[], kind: string): Outcome[] {
  const alpha = ALPHA / Math.max(1, variants.length - 1);
  const control = toSums(rows, variants[0]?.name ?? "", kind);
  return variants.map(({ name }, position) => {
    const sums = toSums(rows, name, kind);
    const change = position === 0 ? null : (toChange(control, sums, alpha) ?? "too few users");
    return { variant: name, rate: toRate(sums), range: toRateRange(sums), change };
  });
}

/** Reads the figures of an experiment, as of recdb's last refresh. */
export async function readFigures(experiment: Experiment): Promise<Figures> {
  const [variants, rows, counted] = await Promise.all([
    queryFigures<VariantRow>(VARIANTS, [experiment.name]),
    queryFigures<SumRow>(SUMS, [experiment.name]),
    queryFigures<{ counted_at: Date | null }>(COUNTED, []),
  ]);
  const whole = variants.reduce((sum, { weight }) => sum + weight, 0);
  const found = variants.map(({ weight, ...variant }) => {
    const all = rows.find((row) => row.variant === variant.name && row.kind === null);
    return { ...variant, share: weight / whole, users: all?.users ?? 0, impressions: all?.impressions ?? 0 };
  });
  const split = toSplitChance(found.map(({ users }) => users), found.map(({ share }) => share));
  const kinds = [...new Set(rows.flatMap(({ kind }) => kind ?? []))];
  return {
    ...experiment,
    variants: found,
    split,
    mismatch: split < MISMATCH,
    crossed: rows.find((row) => row.variant === null)?.users ?? 0,
    kinds: kinds.map((kind) => ({ kind, outcomes: compare(rows, variants, kind) })),
    counted_at: counted[0]?.counted_at ?? null,
  };
}
