/**
 * The statistics of an experiment: rates with intervals that hold at every look, as `recdb experiment show` prints them.
 *
 * The unit is the user: the error of a rate follows from the sums over users by the delta method. The intervals are
 * asymptotic confidence sequences (Waudby-Smith et al. 2021, Time-uniform central limit theory, theorem 2.2): with 95 %
 * they hold at all looks together, so everybody may look at any time and stop.
 */

export const ALPHA = 0.05;
/** The intervals are narrowest at this number of users. They hold at any number. */
const PLANNED_USERS = 10_000;
/** A variant with fewer users, or fewer of them who did it, has no interval: their sums are not normal yet. */
export const LEAST_USERS = 100;
export const LEAST_CONVERTED = 10;
/** How close to the planned split the mixture of other splits is: those of so many users drawn by the planned one. */
const CONCENTRATION = 100;
/** A split of users that is less likely than this under the planned shares is a mistake somewhere. */
export const MISMATCH = 0.001;

/** Sums over the users of a variant: x impressions of each, and y impressions that an interaction followed. */
export type Sums = {
  users: number;
  converted: number;
  x: number;
  xx: number;
  y: number;
  yy: number;
  xy: number;
};

export type Range = { value: number; low: number; high: number };

export function toRate({ x, y }: Sums): number {
  return x > 0 ? y / x : 0;
}

function toError(sums: Sums): number {
  const { users, x, xx, yy, xy } = sums;
  if (users < 2 || x === 0) return Number.POSITIVE_INFINITY;
  const rate = toRate(sums);
  const squares = Math.max(0, yy - 2 * rate * xy + rate ** 2 * xx);
  return Math.sqrt((squares * users) / (users - 1)) / x;
}

function isEnough({ users, converted }: Sums): boolean {
  return users >= LEAST_USERS && converted >= LEAST_CONVERTED;
}

/** Half the width of the interval of an estimate from so many users with this standard error. */
function toRadius(error: number, users: number, alpha: number): number {
  const log = 2 * Math.log(1 / alpha);
  const spread = ((log + Math.log(1 + log)) / PLANNED_USERS) * users;
  return error * Math.sqrt((1 + 1 / spread) * (Math.log(1 + spread) + log));
}

/** A variant's rate, or null if there are too few users. */
export function toRateRange(sums: Sums): Range | null {
  if (!isEnough(sums)) return null;
  const value = toRate(sums);
  const radius = toRadius(toError(sums), sums.users, ALPHA);
  return { value, low: Math.max(0, value - radius), high: Math.min(1, value + radius) };
}

/** A variant's rate minus the control's, or null if there are too few users. */
export function toChange(control: Sums, other: Sums, alpha: number): Range | null {
  if (!isEnough(control) || !isEnough(other)) return null;
  const radius = toRadius(Math.hypot(toError(control), toError(other)), control.users + other.users, alpha);
  const value = toRate(other) - toRate(control);
  return { value, low: value - radius, high: value + radius };
}

/** The logarithm of the gamma function for a number above 0: Stirling's series. */
function logGamma(value: number): number {
  if (value < 10) return logGamma(value + 1) - Math.log(value);
  const series = 1 / (12 * value) - 1 / (360 * value ** 3) + 1 / (1260 * value ** 5);
  return (value - 0.5) * Math.log(value) - value + Math.log(2 * Math.PI) / 2 + series;
}

/**
 * The p-value that users were split by these weights, which holds at every look: 1 by the Bayes factor of a Dirichlet
 * mixture of splits around the planned one (Lindon and Malek 2022, Anytime-valid inference for multinomial count data).
 */
export function toSplitChance(users: number[], weights: number[]): number {
  const total = users.reduce((sum, count) => sum + count, 0);
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  if (total === 0 || users.length < 2) return 1;
  const factor = users.reduce((sum, seen, index) => {
    const share = (weights[index] ?? 0) / whole;
    const prior = CONCENTRATION * share;
    return sum + logGamma(prior + seen) - logGamma(prior) - seen * Math.log(share);
  }, logGamma(CONCENTRATION) - logGamma(CONCENTRATION + total));
  return Math.exp(-Math.max(0, factor));
}
