import { answer, readJson, refuse } from "@/lib/answer";
import { toInteractions, toPostId } from "@/lib/input";
import { record, unlike } from "@/lib/interactions";

/** POST /api/interactions {"interactions": [{"id", "post_id", "interaction_type", "metadata"?}]} */
export async function POST(request: Request): Promise<Response> {
  return answer(async (userId) => {
    const interactions = toInteractions(await readJson(request));
    if (interactions === undefined) return refuse(400);
    await record(userId, interactions);
    return new Response(null, { status: 204 });
  });
}

/** DELETE /api/interactions {"post_id"}: takes a like back. */
export async function DELETE(request: Request): Promise<Response> {
  return answer(async (userId) => {
    const postId = toPostId(await readJson(request));
    if (postId === undefined) return refuse(400);
    await unlike(userId, postId);
    return new Response(null, { status: 204 });
  });
}
