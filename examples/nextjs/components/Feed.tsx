"use client";

import { useRouter } from "next/navigation";
import { Fragment, useCallback, useEffect, useRef, useState } from "react";
import { Icon } from "@/components/Icon";
import { PostCard } from "@/components/PostCard";
import { flush, flushAtEnd } from "@/lib/events";
import { forgetReasons, requestPage } from "@/lib/requests";
import type { Page, Source } from "@/lib/types";

const RETRY = 3_000;

type Status = "ready" | "loading" | "failed" | "end";

function Title({ source, model }: { source: Source; model: string | null }) {
  if (source === "random") {
    return (
      <div className="title" data-source={source}>
        <h1>Recent posts</h1>
        <p className="muted">In random order, for now. Like a few, and the feed becomes yours.</p>
      </div>
    );
  }
  return (
    <div className="title" data-source={source}>
      <h1>For you</h1>
      <p className="muted">
        From what you and people like you enjoyed <code>{model}</code>
      </p>
    </div>
  );
}

/** Counts the posts of the pages before a page. */
function countBefore(pages: Page[], position: number): number {
  return pages.slice(0, position).reduce((sum, { posts }) => sum + posts.length, 0);
}

export function Feed({ initial }: { initial: Page | null }) {
  const [pages, setPages] = useState<Page[]>(initial ? [initial] : []);
  const [status, setStatus] = useState<Status>(initial ? "ready" : "failed");
  const [learned, setLearned] = useState(false);
  const router = useRouter();
  const end = useRef<HTMLDivElement>(null);
  const first = pages[0];

  const load = useCallback(async (before: Page[]) => {
    setStatus("loading");
    try {
      const page = await requestPage(before.flatMap(({ posts }) => posts.map(({ id }) => id)));
      setPages(page.posts.length > 0 ? [...before, page] : before);
      setStatus(page.posts.length > 0 ? "ready" : "end");
    } catch {
      setStatus("failed");
    }
  }, []);

  const renew = useCallback(async () => {
    await flush();
    forgetReasons();
    setLearned(false);
    window.scrollTo({ top: 0 });
    await load([]);
  }, [load]);

  useEffect(() => {
    window.addEventListener("pagehide", flushAtEnd);
    return () => window.removeEventListener("pagehide", flushAtEnd);
  }, []);

  useEffect(() => {
    if (status !== "ready" || end.current === null) return;
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (entry?.isIntersecting) void load(pages);
      },
      { rootMargin: "800px" },
    );
    observer.observe(end.current);
    return () => observer.disconnect();
  }, [status, pages, load]);

  // The server could not read the page's header either. Now it can.
  const recovered = initial === null && first !== undefined;
  useEffect(() => {
    if (recovered) router.refresh();
  }, [recovered, router]);

  useEffect(() => {
    if (status !== "failed") return;
    const timer = setTimeout(() => void load(pages), RETRY);
    return () => clearTimeout(timer);
  }, [status, pages, load]);

  return (
    <main className="column">
      {first && <Title source={first.source} model={first.model_version} />}
      {learned && first?.source === "random" && (
        <button className="pill fresh" onClick={() => void renew()}>
          Your own feed is ready
        </button>
      )}
      <div role="feed" aria-busy={status === "loading"}>
        {pages.map((page, position) => (
          <Fragment key={position}>
            {position > 0 && page.source !== pages[position - 1]?.source && (
              <p className="divider muted">That was all we picked for you. Recent posts from everybody:</p>
            )}
            {page.posts.map((post, index) => (
              <PostCard
                key={post.id}
                post={post}
                page={page}
                place={countBefore(pages, position) + index + 1}
                onLike={() => setLearned(true)}
              />
            ))}
          </Fragment>
        ))}
      </div>
      <div ref={end} />
      {status === "loading" && <p className="notice muted">Loading…</p>}
      {status === "end" && <p className="notice muted">You have seen it all. Come back later.</p>}
      {status === "failed" && (
        <div className="notice" role="alert">
          <Icon name="away" />
          <h2>The feed cannot be reached right now</h2>
          <p className="muted">Nothing is lost, and we keep trying.</p>
          <button className="pill" onClick={() => void load(pages)}>
            Try again
          </button>
        </div>
      )}
    </main>
  );
}
