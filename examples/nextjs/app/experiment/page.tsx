import type { Metadata } from "next";
import { headers } from "next/headers";
import { notFound } from "next/navigation";
import { Experiment, NoExperiment } from "@/components/Experiment";
import { Header } from "@/components/Header";
import { Icon } from "@/components/Icon";
import { type Experiment as Known, type Figures, listExperiments, readFigures } from "@/lib/experiments";
import { isTeam } from "@/lib/team";

export const metadata: Metadata = { title: "Experiments · Murmur" };

/** Reads the experiments and the figures of one of them: that of the name, else the newest. */
async function load(name: string | undefined): Promise<{ all: Known[]; figures: Figures | null } | null> {
  try {
    const all = await listExperiments();
    const chosen = name === undefined ? all[0] : all.find((experiment) => experiment.name === name);
    return { all, figures: chosen ? await readFigures(chosen) : null };
  } catch (error) {
    console.error("experiment:", error instanceof Error ? error.message : error);
    return null;
  }
}

type Properties = { searchParams: Promise<{ name?: string | string[] }> };

export default async function ExperimentPage({ searchParams }: Properties) {
  if (!isTeam((await headers()).get("authorization"))) notFound();
  const { name } = await searchParams;
  const found = await load(typeof name === "string" ? name : undefined);
  if (found?.figures === null && name !== undefined) notFound();
  return (
    <>
      <Header user={null} />
      {found === null ? (
        <main className="column">
          <div className="notice" role="alert">
            <Icon name="away" />
            <h2>The figures cannot be read right now</h2>
            <p className="muted">Nothing is lost. Please load the page again in a moment.</p>
          </div>
        </main>
      ) : found.figures === null ? (
        <NoExperiment />
      ) : (
        <Experiment all={found.all} figures={found.figures} />
      )}
    </>
  );
}
