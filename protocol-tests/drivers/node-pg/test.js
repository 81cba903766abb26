// node pg, its pool and pipeline mode, pg-cursor and pg-copy-streams. It keeps only those prepared statements that are named.
const assert = require("node:assert");
const { once } = require("node:events");
const { Readable } = require("node:stream");
const { pipeline } = require("node:stream/promises");
const { text } = require("node:stream/consumers");
const { Client, Pool } = require("pg");
const Cursor = require("pg-cursor");
const copy = require("pg-copy-streams");
const tap = require("../tap.js");

// Connects each, runs the work with them, and leaves whatever happened.
async function clients(configs, work) {
  const all = configs.map((config) => new Client({ connectionString: tap.url(), connectionTimeoutMillis: 10_000, ...config }));
  for (const client of all) client.on("error", () => {}); // the query that waits is told as well
  try {
    for (const client of all) await client.connect();
    return await work(...all);
  } finally {
    for (const client of all) await client.end();
  }
}
const one = (work) => clients([{}], work);
const two = (work) => clients([{}, {}], work);
const by = (way) => clients([{ connectionString: tap.url("acme", way) }], usable);

const rows = async (client, query, values) =>
  (await client.query({ ...(query.text ? query : { text: query }), values, rowMode: "array" })).rows;
const value = async (client, query, values) => (await rows(client, query, values))[0][0];
const fails = (code, promise) => assert.rejects(promise, (error) => (assert.equal(error.code, code), true));

async function usable(client, tenant = "acme") {
  assert.deepEqual(await rows(client, "select name from who"), [[tenant]]);
}

async function item(client) {
  await client.query("drop table if exists item");
  await client.query("create table item (id int primary key)");
}

async function crowd(client, tenant) {
  await client.query("drop table if exists crowd");
  await client.query("create table crowd (tenant text, id int, n int)");
  await client.query("insert into crowd select $1, id, 0 from generate_series(0, 15) id", [tenant]);
}

const count = (client) => value(client, "select count(*)::int from item");

tap.run({
  connectOptions: () => by("options"),
  connectUser: async () => {
    for (const tenant of ["acme", "umbra"]) {
      await clients([{ connectionString: tap.url(tenant) }], (c) => usable(c, tenant));
    }
  },
  connectDatabase: () => by("database"),
  connectDatabaseAt: () => by("database-at"),
  connectSni: () => clients([{ connectionString: tap.url("acme", null, tap.sniHost), ssl: { ca: tap.ca } }], usable),

  tls: async () => {
    const connectionString = tap.url("acme", "user", "localhost");
    await clients([{ connectionString, ssl: { ca: tap.ca } }], async (c) => {
      assert(c.connection.stream.authorized);
      await usable(c);
    });
    const other = { connectionString: tap.url("acme", "user", "other.example"), ssl: { ca: tap.ca } };
    await assert.rejects(clients([other], usable), { code: "ERR_TLS_CERT_ALTNAME_INVALID" });
    await assert.rejects(clients([{ connectionString, ssl: true }], usable), /certificate/); // the CA is not one of Node's
  },

  autocommit: () =>
    two(async (a, b) => {
      await item(a);
      await a.query("insert into item values ($1)", [1]);
      assert.equal(await count(b), 1);
      await a.query("drop table item");
    }),

  transaction: () =>
    two(async (a, b) => {
      await item(a);
      await a.query("begin");
      await a.query("insert into item values ($1)", [1]);
      assert.equal(await count(b), 0);
      await a.query("commit");
      assert.equal(await count(b), 1);
      await a.query("begin");
      await a.query("insert into item values ($1)", [2]);
      await a.query("rollback");
      assert.deepEqual(await rows(b, "select id from item"), [[1]]);
      await a.query("drop table item");
    }),

  transactionError: () =>
    one(async (c) => {
      await item(c);
      await c.query("begin");
      await c.query("insert into item values (1)");
      await fails("22012", c.query("select 1 / $1::int", [0]));
      await fails("25P02", c.query("select 1"));
      await c.query("rollback");
      await usable(c);
      assert.equal(await count(c), 0);
      await c.query("drop table item");
    }),

  savepoint: () =>
    one(async (c) => {
      await item(c);
      await c.query("begin; insert into item values (1); savepoint here; insert into item values (2)");
      await fails("23505", c.query("insert into item values ($1)", [1]));
      await c.query("rollback to here");
      await c.query("insert into item values (3)");
      await c.query("commit");
      assert.deepEqual(await rows(c, "select id from item order by id"), [[1], [3]]);
      await c.query("drop table item");
    }),

  prepared: () =>
    two(async (a, b) => {
      const pids = new Set();
      const ask = async (c, i) => {
        const kind = i % 5;
        const query = { name: `kind ${kind}`, text: `select name, $1::int + ${kind}, pg_backend_pid() from who where name = $2` };
        const [[name, number, pid]] = await rows(c, query, [i, "acme"]);
        assert.deepEqual([name, number], ["acme", i + kind]);
        pids.add(pid);
      };
      for (let i = 0; i < 60; i++) {
        const [first, again] = tap.overlap(i);
        const [x, y] = first ? [b, a] : [a, b];
        await x.query("begin");
        await ask(x, i);
        await ask(y, i);
        await x.query("commit");
        if (again) await ask(x, i);
      }
      assert(pids.size >= 2, "only one server connection was used");
    }),

  // Also many statements in one simple query.
  batch: () =>
    clients([{ pipeline: true }], async (c) => {
      const numbers = [...Array(100).keys()];
      assert.deepEqual(await Promise.all(numbers.map((n) => value(c, "select $1::int", [n]))), numbers);
      const results = await c.query(numbers.map((n) => `select ${n} as n`).join(";"));
      assert.deepEqual(results.map((result) => result.rows[0].n), numbers);
      await fails("22012", c.query("select 1; select 1/0; select 2"));
      const [before, broken, after] = await Promise.allSettled([1, 0, 1].map((n) => value(c, "select 1 / $1::int", [n])));
      assert.deepEqual([before.value, broken.reason.code, after.value], [1, "22012", 1]);
      await usable(c);
    }),

  copyIn: () =>
    one(async (c) => {
      await item(c);
      const lines = [...Array(10_000).keys()].map((n) => `${n}\n`);
      await pipeline(Readable.from(lines), c.query(copy.from("copy item from stdin")));
      assert.deepEqual(await rows(c, "select count(*)::int, sum(id)::int from item"), [[10_000, 49_995_000]]);
      await c.query("drop table item");
    }),

  copyOut: () =>
    one(async (c) => {
      const got = await text(c.query(copy.to("copy (select n, name from who, generate_series(1, 10000) n) to stdout")));
      assert.equal(got, [...Array(10_000).keys()].map((n) => `${n + 1}\tacme\n`).join(""));
    }),

  copyInAborted: () =>
    one(async (c) => {
      await item(c);
      const givenUp = c.query(copy.from("copy item from stdin"));
      const closed = once(givenUp, "close").catch(() => {});
      givenUp.write("1\n");
      givenUp.destroy(new Error("given up")); // sends CopyFail
      await closed;
      await fails("22P02", pipeline(Readable.from(["1\nx\n"]), c.query(copy.from("copy item from stdin"))));
      await fails("57014", c.query("copy item from stdin")); // without a stream the driver answers CopyFail by itself
      await usable(c);
      assert.equal(await count(c), 0);
      await c.query("drop table item");
    }),

  cursor: () =>
    two(async (a, b) => {
      await a.query("begin");
      const cursor = a.query(new Cursor("select n from generate_series(1, $1::int) n", [1000], { rowMode: "array" }));
      const got = [];
      for (let piece; (piece = await cursor.read(100)).length > 0; ) {
        got.push(...piece.map(([n]) => n));
        await usable(b);
      }
      await cursor.close();
      await a.query("commit");
      assert.deepEqual(got, [...Array(1000).keys()].map((n) => n + 1));
    }),

  cancel: () =>
    two(async (c, watch) => {
      const begun = Date.now();
      const query = fails("57014", c.query("select pg_sleep(10)"));
      while ((await rows(watch, tap.asleep)).length === 0);
      const other = new Client({ connectionString: tap.url() });
      other.on("error", () => {}); // the server hangs up: its answer to a cancel
      other.cancel(c, c.activeQuery);
      await query;
      assert(Date.now() - begun < 5000);
      await usable(c);
    }),

  notify: () =>
    two(async (a, b) => {
      const got = [];
      a.on("notification", (message) => got.push([message.channel, message.payload]));
      await a.query("listen news");
      await b.query("begin");
      await b.query("select pg_notify('news', 'hello')");
      await a.query("select pg_sleep(0.2)");
      assert.deepEqual(got, [], "before the commit");
      const arrived = once(a, "notification");
      await b.query("commit");
      await arrived;
      assert.deepEqual(got, [["news", "hello"]]);
    }),

  large: () =>
    one(async (c) => {
      const large = "0123456789abcdef".repeat((20 << 20) / 16);
      assert((await value(c, "select $1::text", [large])) === large, "it came back changed");
      await usable(c);
    }),

  types: () =>
    one(async (c) => {
      const values = {
        int8: "-4611686018427387904",
        numeric: "12345678901234567890.000123",
        text: "žluťoučký 🐘 'quoted' \\",
        bytea: Buffer.from([...Array(256).keys()]),
        timestamptz: new Date("2026-01-02T03:04:05.678Z"),
        jsonb: { a: [1, null, "ß"] },
        "int[]": [1, null, 3],
        bool: true,
        uuid: "6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f",
        date: null,
      };
      const sql = Object.keys(values).map((type, index) => `$${index + 1}::${type}`);
      for (const query of [{ text: `select ${sql}` }, { text: `select ${sql}`, name: "types" }]) {
        assert.deepEqual((await rows(c, query, Object.values(values)))[0], Object.values(values));
      }
    }),

  poolReset: async () => {
    const pool = new Pool({ connectionString: tap.url(), max: 1, connectionTimeoutMillis: 10_000 });
    const borrowed = async (work) => {
      const c = await pool.connect();
      try {
        return await work(c);
      } finally {
        await c.query("discard all"); // the pool sends nothing of its own
        c.release();
      }
    };
    try {
      const before = await borrowed((c) => value(c, "show statement_timeout"));
      for (let i = 0; i < 3; i++) {
        await borrowed(async (c) => {
          await c.query("set statement_timeout = '12345ms'");
          assert.equal(await value(c, "show statement_timeout"), "12345ms");
        });
        await borrowed(async (c) => {
          assert.equal(await value(c, "show statement_timeout"), before);
          await usable(c);
        });
      }
    } finally {
      await pool.end();
    }
  },

  sessionState: () =>
    two(async (a, b) => {
      const path = await value(b, "show search_path");
      await a.query("set statement_timeout = '12345ms'");
      await a.query("set search_path = pg_catalog, pg_temp");
      await b.query("set statement_timeout = '23456ms'");
      for (let i = 0; i < 10; i++) {
        for (const [c, timeout, where] of [[a, "12345ms", "pg_catalog, pg_temp"], [b, "23456ms", path]]) {
          await c.query("begin");
          assert.equal(await value(c, "show statement_timeout"), timeout);
          await c.query("commit");
          assert.equal(await value(c, "show search_path"), where);
        }
      }
      await usable(b);
    }),

  twoTenants: () =>
    clients(["acme", "umbra"].map((tenant) => ({ connectionString: tap.url(tenant) })), async (acme, umbra) => {
      const ask = async (c, i) => {
        const kind = i % 3;
        const query = { name: `kind ${kind}`, text: `select name, $1::int + ${kind} from who, generate_series(1, 3)` };
        const row = [c === acme ? "acme" : "umbra", i + kind];
        assert.deepEqual(await rows(c, query, [i]), [row, row, row]);
      };
      for (let i = 0; i < 100; i++) {
        const [first, again] = tap.overlap(i);
        const [x, y] = first ? [umbra, acme] : [acme, umbra];
        await x.query("begin");
        await ask(x, i);
        await ask(y, i);
        await x.query("commit");
        if (again) await ask(x, i);
      }
    }),

  sixteenClients: () => {
    const tenants = [...Array(18).keys()].map((i) => ["acme", "umbra"][i % 2]); // the first two own the tables
    return clients(tenants.map((tenant) => ({ connectionString: tap.url(tenant) })), async (...all) => {
      const pids = new Set();
      let altering = 2;
      const read = async (c, tenant, i) => {
        const kind = i % 3;
        const query = { name: `kind ${kind}`, text: `select tenant, $1::int + ${kind}, pg_backend_pid() from crowd` };
        const got = await rows(c, query, [i]);
        assert.deepEqual(got.map(([name, number]) => [name, number]), Array(16).fill([tenant, i + kind]));
        for (const [, , pid] of got) pids.add(pid);
      };
      const update = { name: "update", text: "update crowd set n = n + 1 where id = $1 returning tenant, n" };
      const client = async (c, tenant, id) => {
        for (let i = 0; i < 20 || altering > 0; i++) {
          await read(c, tenant, i);
          await c.query("begin");
          await read(c, tenant, i);
          await read(c, tenant, i + 1);
          await c.query("commit");
          await c.query("begin");
          for (const n of [2 * i + 1, 2 * i + 2]) assert.deepEqual(await rows(c, update, [id]), [[tenant, n]]);
          await c.query("commit");
        }
      };
      const alterer = async (c) => {
        for (let i = 0; i < 20; i++) {
          await c.query("alter table crowd add column extra int");
          await c.query("alter table crowd drop column extra");
        }
        altering--;
      };
      const owners = all.slice(0, 2);
      for (const [i, c] of owners.entries()) await crowd(c, tenants[i]);
      const working = all.slice(2).map((c, id) => client(c, tenants[id], id));
      await Promise.all([...owners.map(alterer), ...working]);
      for (const c of owners) await c.query("drop table crowd");
      assert(pids.size >= 2, "only one server connection was used");
    });
  },
});
