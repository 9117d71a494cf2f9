import { answer, refuse } from "@/lib/answer";
import { isId } from "@/lib/input";
import { readReasons } from "@/lib/reasons";

/** GET /api/why?post_id=… */
export async function GET(request: Request): Promise<Response> {
  return answer(async (userId) => {
    const postId = new URL(request.url).searchParams.get("post_id");
    return isId(postId) ? Response.json(await readReasons(userId, postId)) : refuse(400);
  });
}
