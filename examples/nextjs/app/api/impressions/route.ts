import { answer, readJson, refuse } from "@/lib/answer";
import { recordImpressions } from "@/lib/impressions";
import { toImpressions } from "@/lib/input";
import { keepPosition } from "@/lib/standby";

/** POST /api/impressions {"impressions": [{"post_id", "place", "scenario", "model_version", "served_at"}]} */
export async function POST(request: Request): Promise<Response> {
  return answer(async (userId) => {
    const impressions = toImpressions(await readJson(request));
    if (impressions === undefined) return refuse(400);
    await recordImpressions(userId, impressions);
    await keepPosition();
    return new Response(null, { status: 204 });
  });
}
