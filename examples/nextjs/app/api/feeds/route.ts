import { answer, readJson, refuse } from "@/lib/answer";
import { readFeed } from "@/lib/feed";
import { toAsked } from "@/lib/input";

function answerFeed(limit: unknown, offset: unknown, exclude: unknown): Promise<Response> {
  return answer(async (userId) => {
    const asked = toAsked(limit, offset, exclude);
    return asked === undefined ? refuse(400) : Response.json(await readFeed(userId, asked));
  });
}

/** GET /api/feeds?limit=50&offset=0 */
export async function GET(request: Request): Promise<Response> {
  const parameters = new URL(request.url).searchParams;
  return answerFeed(parameters.get("limit"), parameters.get("offset"), []);
}

/** POST /api/feeds {"limit": 50, "exclude": ["…"]}: the next posts, without those on the screen. */
export async function POST(request: Request): Promise<Response> {
  const body = (await readJson(request)) as { limit?: unknown; exclude?: unknown } | null | undefined;
  return body == null ? refuse(400) : answerFeed(body.limit, 0, body.exclude);
}
