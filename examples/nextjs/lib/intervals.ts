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

/** The logarithm of the gamma function for half an integer or an integer above 0. */
function logGamma(value: number): number {
  if (value === 0.5) return Math.log(Math.PI) / 2;
  return value === 1 ? 0 : Math.log(value - 1) + logGamma(value - 1);
}

/** The upper tail of the chi-square distribution, by the series of the incomplete gamma function or its fraction. */
export function toTail(distance: number, freedom: number): number {
  const [a, x] = [freedom / 2, distance / 2];
  if (x <= 0) return 1;
  const scale = Math.exp(a * Math.log(x) - x - logGamma(a));
  if (x < a + 1) {
    let [term, sum] = [1 / a, 1 / a];
    for (let n = 1; term > sum * 1e-15; n++) {
      term *= x / (a + n);
      sum += term;
    }
    return Math.max(0, 1 - scale * sum);
  }
  let fraction = 0;
  for (let n = 200; n > 0; n--) fraction = (n * (n - a)) / (x + 2 * n + 1 - a - fraction);
  return scale / (x + 1 - a - fraction);
}

/** The p-value of the chi-square test that users were split by these weights. */
export function toSplitChance(users: number[], weights: number[]): number {
  const total = users.reduce((sum, count) => sum + count, 0);
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  if (total === 0 || users.length < 2) return 1;
  const distance = users.reduce((sum, seen, index) => {
    const due = (total * (weights[index] ?? 0)) / whole;
    return sum + (seen - due) ** 2 / due;
  }, 0);
  return toTail(distance, users.length - 1);
}
