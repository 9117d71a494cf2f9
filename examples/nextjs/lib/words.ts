/** Writes figures in words, in English and UTC. */

export function toNumber(value: number): string {
  return value.toLocaleString("en");
}

export function toPercent(value: number, digits = 2): string {
  return `${(100 * value).toFixed(digits)}\u2009%`;
}

/** Writes a difference of two shares in percentage points, with its sign. */
export function toPoints(value: number): string {
  return `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(2)}`;
}

export function toDay(moment: Date): string {
  return moment.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
}

export function toTime(moment: Date): string {
  const time = moment.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
  return `${toDay(moment)}, ${time} UTC`;
}

const KINDS: Record<string, string> = {
  like: "Liked",
  share: "Shared",
  comment: "Commented",
  click: "Opened",
  view: "Looked at for a second",
  not_interested: "Not interested (fewer is better)",
};

/** Compares kinds of interactions for a list: first those that KINDS knows, in its order. */
export function compareKinds(one: string, other: string): number {
  const order = Object.keys(KINDS);
  const place = (kind: string) => (kind in KINDS ? order.indexOf(kind) : order.length);
  return place(one) - place(other) || one.localeCompare(other);
}

export function toKind(kind: string): string {
  return KINDS[kind] ?? kind;
}
