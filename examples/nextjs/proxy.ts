import { type NextRequest, NextResponse } from "next/server";
import { isTeam } from "@/lib/team";

/** Asks the browser for the product team's password. The page checks it too, and does not exist without a password. */
export function proxy(request: NextRequest): NextResponse {
  if (!process.env.PRODUCT_PASSWORD || isTeam(request.headers.get("authorization"))) return NextResponse.next();
  return new NextResponse("This page is for the product team.\n", {
    status: 401,
    headers: { "www-authenticate": 'Basic realm="Product team", charset="UTF-8"' },
  });
}

export const config = { matcher: "/experiment/:path*" };
