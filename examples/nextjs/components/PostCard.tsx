"use client";

import { useCallback, useRef, useState } from "react";
import { Avatar } from "@/components/Avatar";
import { Icon } from "@/components/Icon";
import { useView } from "@/components/useView";
import { Why } from "@/components/Why";
import { flush, note, takeLikeBack } from "@/lib/events";
import { requestReasons } from "@/lib/requests";
import type { Kind, Post } from "@/lib/types";

function age(moment: string): string {
  const minutes = Math.max(1, Math.floor((Date.now() - Date.parse(moment)) / 60_000));
  if (minutes < 60) return `${minutes}m`;
  return minutes < 1_440 ? `${Math.floor(minutes / 60)}h` : `${Math.floor(minutes / 1_440)}d`;
}

type Properties = { post: Post; onLike: () => void };

export function PostCard({ post, onLike }: Properties) {
  const article = useRef<HTMLElement>(null);
  const [liked, setLiked] = useState(false);
  const [shared, setShared] = useState(false);
  const [open, setOpen] = useState(false);
  const [why, setWhy] = useState(false);
  const recommended = post.score !== null;

  const act = useCallback(
    async (kind: Kind) => {
      if (recommended) await requestReasons(post.id).catch(() => undefined);
      note(post.id, kind);
    },
    [post.id, recommended],
  );
  useView(article, useCallback(() => void act("view"), [act]));

  async function like() {
    setLiked(!liked);
    if (liked) return takeLikeBack(post.id);
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

  return (
    <article ref={article} className="post" data-id={post.id} data-topic={post.topic}>
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
