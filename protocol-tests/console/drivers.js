// Node's drivers on the console.
const { Client } = require("pg");
const postgres = require("postgres");

(async () => {
  const url = process.argv[2];
  const client = new Client({ connectionString: url });
  await client.connect();
  console.log("pg", (await client.query({ text: "SHOW VERSION", name: "named" })).rows[0].version);
  await client.end();
  const sql = postgres(url);
  console.log("postgres.js", (await sql`SHOW VERSION`)[0].version);
  await sql.end();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
