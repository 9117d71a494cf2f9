import { answer, readJson, refuse } from "@/lib/answer";
import { toInteractions, toTakenBack } from "@/lib/input";
import { record, takeBack } from "@/lib/interactions";
import { keepPosition } from "@/lib/standby";

/** POST /api/interactions {"interactions": [{"id", "post_id", "interaction_type", "metadata"?}]} */
export async function POST(request: Request): Promise<Response> {
  return answer(async (userId) => {
    const interactions = toInteractions(await readJson(request));
    if (interactions === undefined) return refuse(400);
    await record(userId, interactions);
    await keepPosition();
    return new Response(null, { status: 204 });
  });
}

/** DELETE /api/interactions {"post_id", "interaction_type": "like" or "not_interested"}: takes it back. */
export async function DELETE(request: Request): Promise<Response> {
  return answer(async (userId) => {
    const taken = toTakenBack(await readJson(request));
    if (taken === undefined) return refuse(400);
    await takeBack(userId, taken.post_id, taken.interaction_type);
    await keepPosition();
    return new Response(null, { status: 204 });
  });
}
