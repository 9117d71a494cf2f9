"use server";

import { redirect } from "next/navigation";
import { isId } from "@/lib/input";
import { createUser, findUser, logIn } from "@/lib/users";

export async function enter(form: FormData): Promise<void> {
  const id = form.get("id");
  if (!isId(id) || (await findUser(id)) === null) redirect("/login");
  await logIn(id);
  redirect("/");
}

export async function enterAsNewcomer(): Promise<void> {
  await logIn(await createUser());
  redirect("/");
}
