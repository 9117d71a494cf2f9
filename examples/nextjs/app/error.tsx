"use client";

import { Icon } from "@/components/Icon";

export default function Failed({ reset }: { error: Error; reset: () => void }) {
  return (
    <main className="column">
      <div className="notice" role="alert">
        <Icon name="away" />
        <h2>Something went wrong on our side</h2>
        <p className="muted">Trying again often helps.</p>
        <button className="pill" onClick={reset}>
          Try again
        </button>
      </div>
    </main>
  );
}
