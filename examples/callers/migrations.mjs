// Prisma's own migrations beside recdb: they see nothing of it, and keep an index that stands in the model.
//
// The engine behind `prisma db pull` and `prisma db push` runs as WebAssembly here, on the driver that Prisma's client
// uses: the binary of the command line is no package of the registry.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { PrismaPg } from "@prisma/adapter-pg";
import { bindMigrationAwareSqlAdapterFactory, ColumnTypeEnum } from "@prisma/driver-adapter-utils";
import * as engine from "@prisma/schema-engine-wasm/schema_engine_bg";
import pg from "pg";

const connectionString = process.env.DATABASE_URL;
const package_ = createRequire(import.meta.url).resolve("@prisma/schema-engine-wasm");
const code = readFileSync(package_.replace(/[^/]+$/, "schema_engine_bg.wasm"));
const { instance } = await WebAssembly.instantiate(code, { "./schema_engine_bg.js": engine });
globalThis.PRISMA_WASM_PANIC_REGISTRY = { set_message: (message) => console.error(message) };
engine.__wbg_set_wasm(instance.exports);
instance.exports.__wbindgen_start();

// The adapter refuses PostgreSQL's type "char", which the engine reads from the catalogues: pass it as text, and mark it.
const CHAR = 18;
const TEXT = 25;
let marked = [];
const addFields = pg.Result.prototype.addFields;
pg.Result.prototype.addFields = function (fields) {
  marked = fields.flatMap((field, place) => (field.dataTypeID === CHAR ? [place] : []));
  for (const place of marked) fields[place].dataTypeID = TEXT;
  return addFields.call(this, fields);
};
const factory = new PrismaPg({ connectionString });
const connect = factory.connect.bind(factory);
factory.connect = async () => {
  const adapter = await connect();
  const queryRaw = adapter.queryRaw.bind(adapter);
  adapter.queryRaw = async (query) => {
    const result = await queryRaw(query);
    for (const place of marked) result.columnTypes[place] = ColumnTypeEnum.Character;
    return result;
  };
  return adapter;
};

const client = new pg.Client({ connectionString });
await client.connect();
// Prisma's models have no partial indexes yet (a preview), and this is one of the application's own.
await client.query("drop index if exists user_interaction_like");

const filters = { externalTables: [], externalEnums: [] };
const files = (content) => ({ files: [{ path: "schema.prisma", content }] });
const open = (content) =>
  engine.SchemaEngine.new({ datamodels: [["schema.prisma", content]] }, () => {}, bindMigrationAwareSqlAdapterFactory(factory));
const push = async (content) => (await open(content)).schemaPush({ force: true, schema: files(content), filters });

const empty = 'datasource db {\n  provider = "postgresql"\n}\n';
const pulled = await (await open(empty)).introspect({
  schema: files(empty), baseDirectoryPath: ".", force: false, compositeTypeDepth: 0, namespaces: null,
});
const schema = pulled.schema.files[0].content;
assert.match(schema, /^model user_interaction /m);
assert.doesNotMatch(schema, /recdb/);
assert.equal((await push(schema)).executedSteps, 0, "Prisma finds nothing to change");

const indexes = async () =>
  (await client.query("select indexname from pg_indexes where tablename = 'post' and indexdef like '%(content)'")).rows;
await client.query("create index beside_prisma on post (content)");
assert.ok((await push(schema)).executedSteps > 0, "Prisma drops an index that it does not know");
assert.equal((await indexes()).length, 0);

const advised = schema.replace(/^(model post \{[^}]*)\}/m, "$1\n  @@index([content])\n}");
assert.ok((await push(advised)).executedSteps > 0);
assert.equal((await indexes()).length, 1);
assert.equal((await push(advised)).executedSteps, 0, "Prisma keeps the index of its model");
await client.query("select * from recdb.health");
await push(schema);
await client.end();
process.exit(0);
