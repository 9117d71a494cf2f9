import { PrismaPg } from "@prisma/adapter-pg";
import { Prisma, PrismaClient } from "./prisma/generated/client";
import { url, user, verify } from "./verify";

type Row = { item_id: string; score: number; reason: string; model_version: string };

const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: url }) });

const toIds = (rows: Row[]) => rows.map((row) => row.item_id);
const ask = (query: Prisma.Sql) => prisma.$queryRaw<Row[]>(query).then(toIds);

await verify(
  () => ask(Prisma.sql`select * from recommend(${user}, 5)`),
  {
    typed: (ids) => ask(Prisma.sql`select * from recommend(${user}, 5, ${ids}::text[])`),
    untyped: (ids) => ask(Prisma.sql`select * from recommend(${user}, 5, ${ids})`),
    json: (ids) => ask(Prisma.sql`select * from recommend(${user}, 5, ${JSON.stringify(ids)})`),
  },
  {
    undefined: () => ask(Prisma.sql`select * from recommend(${user}, 5, ${undefined})`),
    null: () => ask(Prisma.sql`select * from recommend(${user}, ${5}, ${null})`),
    "null, typed": () => ask(Prisma.sql`select * from recommend(${user}, 5, ${null}::text[])`),
    "an empty literal": () => ask(Prisma.sql`select * from recommend(${user}, 5, '{}')`),
  },
);

// Reads the recommended posts with Prisma's models of the application's tables.
const feed = await prisma.$queryRaw<Row[]>`select * from recommend(${user}, 5, '{}')`;
const posts = await prisma.post.findMany({ where: { id: { in: toIds(feed) } }, include: { author: true } });
if (posts.length !== feed.length) throw new Error("posts are missing");
await prisma.$disconnect();
