import { redirect } from "next/navigation";
import { Feed } from "@/components/Feed";
import { Header } from "@/components/Header";
import { readFeed } from "@/lib/feed";
import { PAGE_SIZE } from "@/lib/requests";
import type { Page } from "@/lib/types";
import { findUser, sessionId, type User } from "@/lib/users";

async function load(id: string): Promise<{ user: User | null; page: Page | null; reached: boolean }> {
  try {
    const [user, page] = await Promise.all([
      findUser(id),
      readFeed(id, { limit: PAGE_SIZE, offset: 0, exclude: [] }),
    ]);
    return { user, page, reached: true };
  } catch (error) {
    console.error("page:", error instanceof Error ? error.message : error);
    return { user: null, page: null, reached: false };
  }
}

export default async function Home() {
  const id = await sessionId();
  if (id === null) redirect("/login");
  const { user, page, reached } = await load(id);
  if (reached && user === null) redirect("/login");
  return (
    <>
      <Header user={user} />
      <Feed key={id} initial={page} />
    </>
  );
}
