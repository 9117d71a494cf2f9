import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient } from "./prisma/generated/client";
import { url, user, verify } from "./verify";

type Row = { item_id: string; score: number; reason: string; model_version: string };

const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: url }) });

const toIds = (rows: Row[]) => rows.map((row) => row.item_id);

await verify(
  async () => toIds(await prisma.$queryRaw<Row[]>`select * from recommend(${user}, 5)`),
  {
    typed: async (ids) => toIds(await prisma.$queryRaw<Row[]>`select * from recommend(${user}, 5, ${ids}::text[])`),
    untyped: async (ids) => toIds(await prisma.$queryRaw<Row[]>`select * from recommend(${user}, 5, ${ids})`),
    json: async (ids) => toIds(await prisma.$queryRaw<Row[]>`select * from recommend(${user}, 5, ${JSON.stringify(ids)})`),
  },
  {
    null: async () => toIds(await prisma.$queryRaw<Row[]>`select * from recommend(${user}, ${5}, ${null})`),
    "null, typed": async () => toIds(await prisma.$queryRaw<Row[]>`select * from recommend(${user}, 5, ${null}::text[])`),
    "an empty literal": async () => toIds(await prisma.$queryRaw<Row[]>`select * from recommend(${user}, 5, '{}')`),
  },
);

// With the tables of the application, by Prisma's own models.
const feed = await prisma.$queryRaw<Row[]>`select * from recommend(${user}, 5, '{}')`;
const posts = await prisma.post.findMany({ where: { id: { in: toIds(feed) } }, include: { author: true } });
if (posts.length !== feed.length) throw new Error("posts are missing");
await prisma.$disconnect();
