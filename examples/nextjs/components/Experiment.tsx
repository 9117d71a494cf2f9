import Link from "next/link";
import { Outcomes } from "@/components/Outcomes";
import type { Experiment as Known, Figures, Variant } from "@/lib/experiments";
import { toDay, toNumber, toPercent, toTime } from "@/lib/words";

function toState({ started_at, stopped_at }: Known): string {
  if (started_at === null) return "Not started yet";
  return stopped_at === null ? `Running since ${toDay(started_at)}` : `${toDay(started_at)} to ${toDay(stopped_at)}`;
}

/** Says in words how a variant's list is made. */
function describe({ freshness, most_of_author, model }: Variant): string {
  const ways = [
    freshness && `score halves in ${freshness}`,
    most_of_author && `at most ${most_of_author} posts of one author`,
    model && `model ${model}`,
  ].filter(Boolean);
  return ways.join(", ");
}

function Split({ figures: { variants, split, mismatch, crossed } }: { figures: Figures }) {
  const planned = variants.map(({ share }) => toPercent(share, 0)).join(" and ");
  const seen = variants.map(({ users }) => toNumber(users)).join(" and ");
  return (
    <>
      {mismatch ? (
        <div className="split wrong" role="alert">
          <strong>The readers are not split as planned. Do not compare the variants.</strong>
          <p>
            The plan was {planned}, and {seen} readers came. Chance alone does that in fewer than one of 1,000 experiments{" "}
            {`(p\u00a0=\u00a0${split.toExponential(0)})`}. Probably some pages do not record their impressions, or show
            another variant.
          </p>
        </div>
      ) : (
        <p className="split">
          <strong>The readers are split as planned:</strong> {planned} was the plan, and {seen} came{" "}
          {`(p\u00a0=\u00a0${split.toFixed(2)})`}.
        </p>
      )}
      {crossed > 0 && <p className="muted">{toNumber(crossed)} readers were shown several variants and count nowhere.</p>}
    </>
  );
}

function Variants({ variants }: { variants: Variant[] }) {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">Variant</th>
          <th scope="col" className="number">
            Plan
          </th>
          <th scope="col" className="number">
            Readers
          </th>
          <th scope="col" className="number">
            Posts shown
          </th>
        </tr>
      </thead>
      <tbody>
        {variants.map((variant) => (
          <tr key={variant.name} data-variant={variant.name}>
            <th scope="row">
              {variant.name} <small className="muted">{describe(variant)}</small>
            </th>
            <td className="number">{toPercent(variant.share, 0)}</td>
            <td className="number">{toNumber(variant.users)}</td>
            <td className="number">{toNumber(variant.impressions)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Nothing({ experiment }: { experiment: Figures }) {
  return (
    <div className="notice">
      <h2>{experiment.started_at === null ? "It has not started yet" : "No figures yet"}</h2>
      <p className="muted">
        {experiment.started_at === null ? (
          "Until then every reader gets the usual list."
        ) : (
          <>
            Readers get their variants already. What they were shown appears here with the next <code>recdb refresh</code>.
          </>
        )}
      </p>
    </div>
  );
}

/** What the page shows before anybody has made an experiment. */
export function NoExperiment() {
  return (
    <main className="column">
      <div className="notice alone">
        <h2>No experiment yet</h2>
        <p className="muted">An experiment shows some readers another list, and says here which list they like more.</p>
        <pre>
          {"recdb experiment start fresher --scenario home \\\n    --variant usual=1 \\\n    "}
          {"--variant fresh=1,scenario=home-fresh"}
        </pre>
      </div>
    </main>
  );
}

/** The figures of an experiment for people who decide about the product. */
export function Experiment({ all, figures }: { all: Known[]; figures: Figures }) {
  const readers = figures.variants.reduce((sum, { users }) => sum + users, 0);
  return (
    <main className="column experiment">
      {all.length > 1 && (
        <nav aria-label="Experiments">
          {all.map(({ name }) => (
            <Link
              key={name}
              href={`/experiment?name=${encodeURIComponent(name)}`}
              aria-current={name === figures.name ? "page" : undefined}
            >
              {name}
            </Link>
          ))}
        </nav>
      )}
      <div className="title">
        <h1>{figures.name}</h1>
        <p className="muted">
          In <em>{figures.scenario}</em>. {toState(figures)}.
        </p>
      </div>
      <div className="figures">
        <Variants variants={figures.variants} />
        {readers > 0 ? (
          <>
            <Split figures={figures} />
            <Outcomes kinds={figures.kinds} comparable={!figures.mismatch} />
            <p className="muted note">
              Rates are shares of the posts shown. The intervals hold at every look (95&thinsp;%), so look as often as you
              like, and stop when zero is outside.
              {figures.counted_at && ` Counted ${toTime(figures.counted_at)}.`}
            </p>
          </>
        ) : (
          <Nothing experiment={figures} />
        )}
      </div>
    </main>
  );
}
