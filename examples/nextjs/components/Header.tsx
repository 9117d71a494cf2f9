import Link from "next/link";
import { Avatar } from "@/components/Avatar";
import type { User } from "@/lib/users";

export function Header({ user }: { user: User | null }) {
  return (
    <header className="top">
      <a className="wordmark" href="/">
        murmur
      </a>
      {user && (
        <Link className="who" href="/login" title="Log in as somebody else">
          <span>{user.name}</span>
          <Avatar id={user.id} name={user.name} />
        </Link>
      )}
    </header>
  );
}
