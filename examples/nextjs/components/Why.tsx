"use client";

import { useEffect, useState } from "react";
import { requestReasons } from "@/lib/requests";
import type { Reason, Why as Found } from "@/lib/types";

const LONGEST = 90;

function shorten(text: string): string {
  const first = text.split(/(?<=[.!?])\s/)[0] ?? text;
  return first.length <= LONGEST ? first : `${first.slice(0, LONGEST).trimEnd()}…`;
}

function Row({ reason }: { reason: Reason }) {
  const percent = Math.round(reason.share * 100);
  return (
    <li>
      <span className="because">
        {reason.followed ? (
          `You follow ${reason.followed}`
        ) : reason.post ? (
          <>
            You stopped at <q>{shorten(reason.post.content)}</q>{" "}
            <span className="muted">
              {reason.post.author}, {reason.post.topic}
            </span>
          </>
        ) : (
          "People with a taste like yours enjoyed it"
        )}
      </span>
      <span className="percent">{percent < 1 ? "under 1" : percent}&thinsp;%</span>
      <span className="bar" style={{ "--share": `${percent}%` } as React.CSSProperties} />
    </li>
  );
}

export function Why({ postId }: { postId: string }) {
  const [found, setFound] = useState<Found | "failed">();
  useEffect(() => {
    let current = true;
    requestReasons(postId).then(
      (answer) => current && setFound(answer),
      () => current && setFound("failed"),
    );
    return () => {
      current = false;
    };
  }, [postId]);
  return (
    <section className="reasons" aria-label="Why this post?">
      <h3>Why this post?</h3>
      {found === undefined && <p className="muted">Looking it up…</p>}
      {found === "failed" && <p className="muted">The reasons cannot be read right now.</p>}
      {typeof found === "object" && found.reasons.length === 0 && (
        <p className="muted">You have acted on this post, so it is no longer one of your recommendations.</p>
      )}
      {typeof found === "object" && found.reasons.length > 0 && (
        <>
          <ul>
            {found.reasons.map((reason, position) => (
              <Row key={position} reason={reason} />
            ))}
          </ul>
          {found.faded >= 0.01 && (
            <p className="muted faded">Newer posts come first: its age took {Math.round(found.faded * 100)}&thinsp;% off.</p>
          )}
        </>
      )}
    </section>
  );
}
