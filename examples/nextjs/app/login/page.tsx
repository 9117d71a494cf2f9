import type { Metadata } from "next";
import { enter, enterAsNewcomer } from "@/app/login/actions";
import { Avatar } from "@/components/Avatar";
import { Header } from "@/components/Header";
import { type Candidate, listCandidates } from "@/lib/users";

export const metadata: Metadata = { title: "Log in · Murmur" };
export const dynamic = "force-dynamic";

async function load(): Promise<Candidate[] | null> {
  try {
    return await listCandidates();
  } catch (error) {
    console.error("login:", error instanceof Error ? error.message : error);
    return null;
  }
}

export default async function Login() {
  const candidates = await load();
  return (
    <>
      <Header user={null} />
      <main className="column chooser">
        <h1>Who is reading?</h1>
        <p className="muted">This is an example: choose somebody, no password needed.</p>
        {candidates === null ? (
          <p role="alert">Nobody can be found right now. Please try again in a moment.</p>
        ) : (
          <>
            <form action={enterAsNewcomer}>
              <button className="person newcomer">
                <span className="plus" aria-hidden="true">+</span>
                <span>
                  <strong>Somebody new</strong>
                  <small>No history at all: watch the feed learn</small>
                </span>
              </button>
            </form>
            <form action={enter}>
              {candidates.map((person) => (
                <button key={person.id} className="person" name="id" value={person.id}>
                  <Avatar id={person.id} name={person.name} />
                  <span>
                    <strong>{person.name}</strong>
                    <small>
                      {person.topics.join(", ")} · {person.interactions} interactions
                    </small>
                  </span>
                </button>
              ))}
            </form>
          </>
        )}
      </main>
    </>
  );
}
