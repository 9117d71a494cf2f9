// Drizzle 1.0 compares every schema of the database with your files, unless a filter names yours. Before, it is the default.
export default {
  dialect: "postgresql",
  schemaFilter: ["public"],
  schema: "./drizzle-generated/schema.ts",
  out: "./drizzle-generated",
  dbCredentials: { url: process.env.DATABASE_URL },
};
