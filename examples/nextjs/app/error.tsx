"use client";

export default function Failed({ reset }: { error: Error; reset: () => void }) {
  return (
    <main className="column">
      <div className="notice" role="alert">
        <p>Something went wrong on our side.</p>
        <button className="pill" onClick={reset}>
          Try again
        </button>
      </div>
    </main>
  );
}
