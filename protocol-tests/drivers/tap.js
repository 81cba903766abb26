// What the Node programs share: the runner's environment, the tenants' URLs, and TAP.
const dns = require("node:dns");
const fs = require("node:fs");
const path = require("node:path");

const { TENANTRY_HOST: host, TENANTRY_PORT: port, TENANTRY_USER: user, TENANTRY_PASSWORD: password } = process.env;
const database = process.env.TENANTRY_DATABASE;
const checklist = fs.readFileSync(path.join(__dirname, "CHECKLIST.md"), "utf8");
const checks = [...checklist.matchAll(/^\d+\. \*\*(.+?)\*\*/gm)].map((match) => match[1]);

exports.host = host;
exports.ca = fs.readFileSync(process.env.TENANTRY_CA, "utf8");
// Answers a row once a session is at it: a cancel that comes before its statement cancels nothing.
exports.asleep = "select 'asleep' from pg_stat_activity where state = 'active' and query = 'select pg_sleep(10)'";
exports.sniHost = "acme.db.localhost";

exports.url = (tenant = "acme", way = "user", at = host) => {
  const login = way === "user" ? `${user}.${tenant}` : user;
  const name = { database: tenant, "database-at": `${database}%40${tenant}` }[way] ?? database;
  const query = way === "options" ? `?options=-c%20app.tenant%3D${tenant}` : "";
  return `postgres://${login}:${password}@${at}:${port}/${name}${query}`;
};

// Who (0 or 1) is in a transaction in round i, and whether it asks once more after it: servers change hands in every order.
exports.overlap = (i) => [i % 2, i % 3 === 0];

// Every other name leads to the server as well: neither driver can be told a name and an address apart.
const lookup = dns.lookup;
dns.lookup = (_name, options, callback) => lookup(host, options, callback);

class Skip extends Error {}
exports.Skip = Skip;

exports.run = async (functions) => {
  let failed = false;
  console.log(`TAP version 13\n1..${checks.length}`);
  for (const [index, name] of checks.entries()) {
    const check = functions[name.replaceAll(/-(.)/g, (_, letter) => letter.toUpperCase())];
    let timer;
    const timeout = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("no answer in 15 s")), 15_000);
    });
    try {
      if (process.env.TENANTRY_DIRECT === "1" && name.startsWith("connect-")) throw new Skip("bare PostgreSQL knows no tenants");
      await Promise.race([check(), timeout]);
      console.log(`ok ${index + 1} - ${name}`);
    } catch (error) {
      if (error instanceof Skip) {
        console.log(`ok ${index + 1} - ${name} # SKIP ${error.message}`);
      } else {
        failed = true;
        const line = /test\.js:(\d+)/.exec(error.stack ?? "")?.[1] ?? "?";
        console.log(`not ok ${index + 1} - ${name}: ${`${error.code ?? ""} ${error.message} (line ${line})`.replaceAll(/\s+/g, " ").trim()}`);
      }
    } finally {
      clearTimeout(timer);
    }
  }
  process.exit(failed ? 1 : 0);
};
