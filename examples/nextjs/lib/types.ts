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
  model_version: string | null;
  posts: Post[];
};

export type Reason = {
  source: "item" | "neighbors";
  share: number;
  post: { content: string; topic: string; author: string } | null;
  followed: string | null;
};

export type Kind = "view" | "click" | "like" | "share";

export type Interaction = {
  id: string;
  post_id: string;
  interaction_type: Kind;
};
