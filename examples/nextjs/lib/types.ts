export type Source = "ml_recommendations" | "random";

export type Post = {
  id: string;
  content: string;
  topic: string;
  created_at: string;
  author: { id: string; name: string; handle: string };
  likes: number;
  score: number | null;
};

export type Page = {
  source: Source;
  scenario: string;
  model_version: string | null;
  served_at: string;
  posts: Post[];
};

export type Reason = {
  source: "item" | "neighbors" | "content" | "author";
  share: number;
  post: { content: string; topic: string; author: string } | null;
  followed: string | null;
};

/** `faded` is the share of its score that a post has lost by its age, from 0 to 1. */
export type Why = { reasons: Reason[]; faded: number };

export type Kind = "view" | "click" | "like" | "share" | "not_interested";

/** The kinds that a user can take back. */
export type Revocable = Extract<Kind, "like" | "not_interested">;

export type Interaction = {
  id: string;
  post_id: string;
  interaction_type: Kind;
};

/** A post that was on the screen: its place in the feed, and the page of the feed that brought it. */
export type Impression = Pick<Page, "scenario" | "model_version" | "served_at"> & {
  post_id: string;
  place: number;
};
