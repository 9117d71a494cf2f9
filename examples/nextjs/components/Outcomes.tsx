import type { CSSProperties } from "react";
import type { Figures, Outcome } from "@/lib/experiments";
import { LEAST_CONVERTED, LEAST_USERS, type Range } from "@/lib/intervals";
import { compareKinds, toKind, toPercent, toPoints } from "@/lib/words";

/** Draws an interval on an axis from `from` to `to`. */
function Interval({ range, from, to }: { range: Range; from: number; to: number }) {
  const at = (value: number) => `${(100 * (value - from)) / (to - from)}%`;
  const style = {
    "--low": at(range.low),
    "--value": at(range.value),
    "--high": at(range.high),
    "--zero": from < 0 ? at(0) : undefined,
  } as CSSProperties;
  return <span className={from < 0 ? "interval signed" : "interval"} style={style} aria-hidden="true" />;
}

/** Says what a change means, and whether its interval leaves zero out. */
function judge({ variant, change }: Outcome, comparable: boolean): { verdict: string; text: string } | null {
  if (change === null) return null;
  if (!comparable) return { verdict: "invalid", text: "The split is wrong, so this says nothing." };
  if (change === "too few users") {
    const text = `Too few readers to say. Each variant needs ${LEAST_USERS}, and ${LEAST_CONVERTED} who did it.`;
    return { verdict: "few", text };
  }
  if (change.low > 0) return { verdict: "higher", text: `Higher with ${variant}: the interval leaves out zero.` };
  if (change.high < 0) return { verdict: "lower", text: `Lower with ${variant}: the interval leaves out zero.` };
  return { verdict: "open", text: "No difference shows yet: the interval has zero in it." };
}

function Kind({ kind, outcomes, comparable }: { kind: string; outcomes: Outcome[]; comparable: boolean }) {
  const most = Math.max(...outcomes.map(({ rate, range }) => range?.high ?? rate)) * 1.08 || 1;
  const widest = Math.max(
    ...outcomes.map(({ change }) => (change && typeof change === "object" ? Math.max(-change.low, change.high) : 0)),
  );
  return (
    <section className="kind" data-kind={kind} aria-label={toKind(kind)}>
      <h2>{toKind(kind)}</h2>
      {outcomes.map(({ variant, rate, range }) => (
        <div key={variant} className="outcome" data-variant={variant}>
          <span>{variant}</span>
          <span className="number">{toPercent(rate)}</span>
          {range && <Interval range={range} from={0} to={most} />}
          <span className="ends muted">
            {range ? `${toPercent(range.low)} to ${toPercent(range.high)}` : "too few for an interval"}
          </span>
        </div>
      ))}
      {outcomes.map((outcome) => {
        const judged = judge(outcome, comparable);
        if (judged === null) return null;
        const change = typeof outcome.change === "object" ? outcome.change : null;
        return (
          <div key={outcome.variant} className="change" data-change={outcome.variant}>
            {change && (
              <div className="outcome">
                <span className="muted">difference</span>
                <span className="number">{toPoints(change.value)}</span>
                <Interval range={change} from={-1.15 * widest} to={1.15 * widest} />
                <span className="ends muted">
                  {toPoints(change.low)} to {toPoints(change.high)} points
                </span>
              </div>
            )}
            <p className={`verdict ${judged.verdict}`}>{judged.text}</p>
          </div>
        );
      })}
    </section>
  );
}

/** Shows for each kind of interaction how often it followed, by variant, and how the variants differ. */
export function Outcomes({ kinds, comparable }: { kinds: Figures["kinds"]; comparable: boolean }) {
  if (kinds.length === 0) return <p>Nobody has followed a post yet.</p>;
  const sorted = [...kinds].sort((one, other) => compareKinds(one.kind, other.kind));
  return sorted.map(({ kind, outcomes }) => (
    <Kind key={kind} kind={kind} outcomes={outcomes} comparable={comparable} />
  ));
}
