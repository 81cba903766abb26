// node pg: a transaction, a prepared statement, a COPY (as text) and an error.
const assert = require("node:assert");
const { Client } = require("pg");

async function main() {
  const client = new Client({ connectionString: process.argv[2] });
  await client.connect();
  const names = async (query) => (await client.query(query)).rows.map((row) => row.name);
  assert.deepEqual(await names("select name from who"), ["acme"]);
  await client.query("begin");
  await client.query("insert into who values ($1)", ["x"]);
  assert.equal((await names("select name from who")).length, 2);
  await client.query("rollback");
  for (let i = 0; i < 3; i++) {
    const prepared = { name: "by-name", text: "select name from who where name = $1", values: ["acme"] };
    assert.deepEqual(await names(prepared), ["acme"]);
  }
  await client.query("copy who to stdout"); // node pg drops the data and keeps the session
  await assert.rejects(client.query("copy who from stdin"), { code: "57014" });
  await assert.rejects(client.query("select 1/0"), { code: "22012" });
  assert.deepEqual(await names("select name from who"), ["acme"]);
  await client.end();
  console.log("ok");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
