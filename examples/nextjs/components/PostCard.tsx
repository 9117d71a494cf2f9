"use client";

import { useCallback, useRef, useState } from "react";
import { Avatar } from "@/components/Avatar";
import { Icon } from "@/components/Icon";
import { useView } from "@/components/useView";
import { Why } from "@/components/Why";
import { flush, note, noteImpression, takeBack } from "@/lib/events";
import { requestReasons } from "@/lib/requests";
import type { Kind, Page, Post } from "@/lib/types";

function age(moment: string): string {
  const minutes = Math.max(1, Math.floor((Date.now() - Date.parse(moment)) / 60_000));
  if (minutes < 60) return `${minutes}m`;
  return minutes < 1_440 ? `${Math.floor(minutes / 60)}h` : `${Math.floor(minutes / 1_440)}d`;
}

/** `page` brought the post; `place` is the place in the whole feed, from 1. */
type Properties = { post: Post; page: Page; place: number; onLike: () => void };

function Dismissed({ onUndo }: { onUndo: () => void }) {
  return (
    <div className="dismissed" role="status">
      <Icon name="not" />
      <span>You will see fewer posts like that one.</span>
      <button autoFocus onClick={onUndo}>
        Undo
      </button>
    </div>
  );
}

export function PostCard({ post, page, place, onLike }: Properties) {
  const article = useRef<HTMLElement>(null);
  const [liked, setLiked] = useState(false);
  const [shared, setShared] = useState(false);
  const [open, setOpen] = useState(false);
  const [why, setWhy] = useState(false);
  const [dismissed, setDismissed] = useState(false);
  const recommended = post.score !== null;

  const act = useCallback(
    async (kind: Kind) => {
      if (recommended) await requestReasons(post.id).catch(() => undefined);
      note(post.id, kind);
    },
    [post.id, recommended],
  );
  const { scenario, model_version, served_at } = page;
  const show = useCallback(
    () => noteImpression({ post_id: post.id, place, scenario, model_version, served_at }),
    [post.id, place, scenario, model_version, served_at],
  );
  const view = useCallback(() => void act("view"), [act]);
  useView(article, !dismissed, show, view);

  async function like() {
    setLiked(!liked);
    if (liked) return takeBack(post.id, "like");
    await act("like");
    await flush();
    onLike();
  }

  function share() {
    if (shared) return;
    setShared(true);
    void act("share");
  }

  function click() {
    if (!open) void act("click");
    setOpen(!open);
  }

  function dismiss() {
    setDismissed(true);
    note(post.id, "not_interested");
    void flush();
  }

  function bringBack() {
    setDismissed(false);
    void takeBack(post.id, "not_interested");
  }

  if (dismissed) return <Dismissed onUndo={bringBack} />;
  return (
    <article ref={article} className="post" data-id={post.id} data-topic={post.topic} data-author={post.author.id}>
      <Avatar id={post.author.id} name={post.author.name} />
      <div className="body">
        <div className="byline">
          <strong title={`@${post.author.handle}`}>{post.author.name}</strong>
          <span className="topic">{post.topic}</span>
          <time className="muted" dateTime={post.created_at} suppressHydrationWarning>
            {age(post.created_at)}
          </time>
        </div>
        <button className={open ? "content open" : "content"} aria-expanded={open} onClick={click}>
          {post.content}
        </button>
        <div className="actions">
          <button aria-label="Like" aria-pressed={liked} onClick={() => void like()}>
            <Icon name="heart" />
            <span>{post.likes + (liked ? 1 : 0) || ""}</span>
          </button>
          <button aria-label="Share" aria-pressed={shared} onClick={share}>
            <Icon name="share" />
          </button>
          <button className="dismiss" aria-label="Not interested" title="Not interested" onClick={dismiss}>
            <Icon name="not" />
          </button>
          {recommended && (
            <button className="ask" aria-expanded={why} onClick={() => setWhy(!why)}>
              <Icon name="why" />
              <span>Why this?</span>
            </button>
          )}
        </div>
        {why && <Why postId={post.id} />}
      </div>
    </article>
  );
}
