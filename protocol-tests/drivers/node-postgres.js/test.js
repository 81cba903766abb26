// postgres.js. Everything is a pool here, so most checks use pools of one connection; it prepares and pipelines by default.
const assert = require("node:assert");
const { Readable } = require("node:stream");
const { pipeline } = require("node:stream/promises");
const { text } = require("node:stream/consumers");
const postgres = require("postgres");
const tap = require("../tap.js");

// A client for each URL; all are ended, whatever happened.
async function clients(urls, work, options = {}) {
  const all = urls.map((url) => postgres(url, { max: 1, connect_timeout: 10, onnotice: () => {}, ...options }));
  try {
    return await work(...all);
  } finally {
    for (const sql of all) await sql.end({ timeout: 2 });
  }
}
const one = (work) => clients([tap.url()], work);
const two = (work) => clients([tap.url(), tap.url()], work);
const by = (way) => clients([tap.url("acme", way)], usable);

const value = async (query) => (await query.values())[0][0];
const fails = (code, promise) => assert.rejects(promise, (error) => (assert.equal(error.code, code), true));

async function usable(sql, tenant = "acme") {
  assert.deepEqual([...(await sql`select name from who`.values())], [[tenant]]);
}

async function item(sql) {
  await sql`drop table if exists item`;
  await sql`create table item (id int primary key)`;
}

async function crowd(sql, tenant) {
  await sql`drop table if exists crowd`;
  await sql`create table crowd (tenant text, id int, n int)`;
  await sql`insert into crowd select ${tenant}, id, 0 from generate_series(0, 15) id`;
}

const count = (sql) => value(sql`select count(*)::int from item`);

tap.run({
  connectOptions: () => by("options"),
  connectUser: async () => {
    for (const tenant of ["acme", "umbra"]) await clients([tap.url(tenant)], (sql) => usable(sql, tenant));
  },
  connectDatabase: () => by("database"),
  connectDatabaseAt: () => by("database-at"), // it sends the %40 as it stands
  connectSni: () => clients([tap.url("acme", null, tap.sniHost)], usable, { ssl: { ca: tap.ca } }),

  tls: async () => {
    const localhost = [tap.url("acme", "user", "localhost")];
    await clients(localhost, usable, { ssl: { ca: tap.ca } });
    const other = [tap.url("acme", "user", "other.example")];
    await assert.rejects(clients(other, usable, { ssl: { ca: tap.ca } }), { code: "ERR_TLS_CERT_ALTNAME_INVALID" });
    await assert.rejects(clients(localhost, usable, { ssl: "verify-full" }), /certificate/); // the CA is not one of Node's
  },

  autocommit: () =>
    two(async (a, b) => {
      await item(a);
      await a`insert into item values (${1})`;
      assert.equal(await count(b), 1);
      await a`drop table item`;
    }),

  transaction: () =>
    two(async (a, b) => {
      await item(a);
      await a.begin(async (sql) => {
        await sql`insert into item values (${1})`;
        assert.equal(await count(b), 0);
      });
      assert.equal(await count(b), 1);
      const rolledBack = a.begin(async (sql) => {
        await sql`insert into item values (${2})`;
        throw new Error("roll back");
      });
      await assert.rejects(rolledBack, /roll back/);
      assert.equal(await value(b`select string_agg(id::text, ' ') from item`), "1");
      await a`drop table item`;
    }),

  transactionError: () =>
    one(async (c) => {
      await item(c);
      const broken = c.begin(async (sql) => {
        await sql`insert into item values (1)`;
        await fails("22012", sql`select 1 / ${0}::int`);
        await fails("25P02", sql`select 1`);
      });
      await fails("22012", broken); // begin() rejects with the first error and rolls back
      await usable(c);
      assert.equal(await count(c), 0);
      await c`drop table item`;
    }),

  savepoint: () =>
    one(async (c) => {
      await item(c);
      await c.begin(async (sql) => {
        await sql`insert into item values (1)`;
        const inner = sql.savepoint(async (here) => {
          await here`insert into item values (2)`;
          await here`insert into item values (${1})`;
        });
        await fails("23505", inner);
        await sql`insert into item values (3)`;
      });
      assert.equal(await value(c`select string_agg(id::text, ' ' order by id) from item`), "1 3");
      await c`drop table item`;
    }),

  prepared: () =>
    two(async (a, b) => {
      const pids = new Set();
      const ask = async (sql, i) => {
        const kind = i % 5;
        const query = `select name, $1::int + ${kind}, pg_backend_pid() from who where name = $2`;
        const [[name, number, pid]] = await sql.unsafe(query, [i, "acme"], { prepare: true }).values();
        assert.deepEqual([name, number], ["acme", i + kind]);
        pids.add(pid);
      };
      for (let i = 0; i < 60; i++) {
        const [first, again] = tap.overlap(i);
        const [x, y] = first ? [b, a] : [a, b];
        await x.begin(async (sql) => {
          await ask(sql, i);
          await ask(y, i);
        });
        if (again) await ask(x, i);
      }
      assert(pids.size >= 2, "only one server connection was used");
    }),

  batch: () =>
    one(async (c) => {
      const numbers = [...Array(100).keys()];
      const select = (n) => value(c`select ${n}::int`);
      await select(0); // learns the types; what follows goes out in one pipeline
      assert.deepEqual(await Promise.all(numbers.map(select)), numbers);
      const divide = (n) => value(c`select 1 / ${n}::int`);
      await divide(1);
      const [before, broken, after] = await Promise.allSettled([1, 0, 1].map(divide));
      assert.deepEqual([before.value, broken.reason.code, after.value], [1, "22012", 1]);
      await fails("22012", c.begin((sql) => [1, 0, 1].map((n) => sql`select 1 / ${n}::int`)));
      await usable(c);
    }),

  copyIn: () =>
    one(async (c) => {
      await item(c);
      const lines = [...Array(10_000).keys()].map((n) => `${n}\n`);
      await pipeline(Readable.from(lines), await c`copy item from stdin`.writable());
      assert.deepEqual([...(await c`select count(*)::int, sum(id)::int from item`.values())], [[10_000, 49_995_000]]);
      await c`drop table item`;
    }),

  copyOut: () =>
    one(async (c) => {
      const got = await text(await c`copy (select n, name from who, generate_series(1, 10000) n) to stdout`.readable());
      assert.equal(got, [...Array(10_000).keys()].map((n) => `${n + 1}\tacme\n`).join(""));
    }),

  copyInAborted: () =>
    one(async (c) => {
      await item(c);
      const givenUp = await c`copy item from stdin`.writable();
      givenUp.on("error", () => {});
      givenUp.write("1\n");
      givenUp.destroy(new Error("given up")); // sends CopyFail
      await new Promise((resolve) => givenUp.once("close", resolve));
      const refused = await c`copy item from stdin`.writable();
      refused.write("1\nx\n"); // once it is ended, the driver never tells of an error
      await fails("22P02", new Promise((_, reject) => refused.once("error", reject)));
      await usable(c);
      assert.equal(await count(c), 0);
      await c`drop table item`;
    }),

  cursor: () =>
    two(async (a, b) => {
      const got = [];
      await a.begin(async (sql) => {
        for await (const piece of sql`select n from generate_series(1, ${1000}::int) n`.cursor(100)) {
          assert.equal(piece.length, 100);
          got.push(...piece.map((row) => row.n));
          await usable(b);
        }
      });
      assert.deepEqual(got, [...Array(1000).keys()].map((n) => n + 1));
    }),

  cancel: () =>
    two(async (c, watch) => {
      const begun = Date.now();
      const query = c`select pg_sleep(10)`.execute();
      const cancelled = fails("57014", query);
      while ((await watch.unsafe(tap.asleep)).length === 0);
      query.cancel();
      await cancelled;
      assert(Date.now() - begun < 5000);
      await usable(c);
    }),

  notify: () =>
    two(async (a, b) => {
      const got = [];
      let arrive;
      const arrived = new Promise((resolve) => (arrive = resolve));
      const listener = await a.listen("news", (payload) => (got.push(payload), arrive()));
      await b.begin(async (sql) => {
        await sql`select pg_notify(${"news"}, ${"hello"})`; // sql.notify is not the transaction's
        await sql`select pg_sleep(0.2)`;
        assert.deepEqual(got, [], "before the commit");
      });
      await arrived;
      assert.deepEqual(got, ["hello"]); // the driver hands on payloads of this channel only
      await listener.unlisten();
    }),

  large: () =>
    one(async (c) => {
      const large = "0123456789abcdef".repeat((20 << 20) / 16);
      assert((await value(c`select ${large}::text`)) === large, "it came back changed");
      await usable(c);
    }),

  types: () =>
    one(async (c) => {
      const json = { a: [1, null, "ß"] };
      const values = {
        int8: "-4611686018427387904",
        numeric: "12345678901234567890.000123",
        text: "žluťoučký 🐘 'quoted' \\",
        bytea: Buffer.from([...Array(256).keys()]),
        timestamptz: new Date("2026-01-02T03:04:05.678Z"),
        jsonb: json,
        "int[]": [1, -2, 3], // a null in an int[] is NaN to the driver
        bool: true,
        uuid: "6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f",
        date: null,
      };
      const columns = Object.keys(values).map((type, index) => `$${index + 1}::${type}`);
      const parameters = Object.values(values).map((v) => (v === json ? c.json(v) : v));
      for (const prepare of [false, true]) {
        const [row] = await c.unsafe(`select ${columns}`, parameters, { prepare }).values();
        assert.deepEqual([...row].map((v) => (Array.isArray(v) ? [...v] : v)), Object.values(values));
      }
    }),

  poolReset: () =>
    one(async (pool) => {
      const borrowed = async (work) => {
        const c = await pool.reserve();
        try {
          return await work(c);
        } finally {
          // The pool sends nothing of its own; a DISCARD ALL would take away the statements that the driver thinks are there.
          await c`reset all`;
          c.release();
        }
      };
      const before = await borrowed((c) => value(c`show statement_timeout`));
      for (let i = 0; i < 3; i++) {
        await borrowed(async (c) => {
          await c`set statement_timeout = '12345ms'`;
          assert.equal(await value(c`show statement_timeout`), "12345ms");
        });
        await borrowed(async (c) => {
          assert.equal(await value(c`show statement_timeout`), before);
          await usable(c);
        });
      }
    }),

  sessionState: () =>
    two(async (a, b) => {
      const path = await value(b`show search_path`);
      await a`set statement_timeout = '12345ms'`;
      await a`set search_path = pg_catalog, pg_temp`;
      await b`set statement_timeout = '23456ms'`;
      for (let i = 0; i < 10; i++) {
        for (const [c, timeout, where] of [[a, "12345ms", "pg_catalog, pg_temp"], [b, "23456ms", path]]) {
          assert.equal(await c.begin((sql) => value(sql`show statement_timeout`)), timeout);
          assert.equal(await value(c`show search_path`), where);
        }
      }
      await usable(b);
    }),

  twoTenants: () =>
    clients([tap.url("acme"), tap.url("umbra")], async (acme, umbra) => {
      const ask = async (sql, tenant, i) => {
        const query = `select name, $1::int + ${i % 3} from who, generate_series(1, 3)`;
        const row = [tenant, i + (i % 3)];
        assert.deepEqual([...(await sql.unsafe(query, [i], { prepare: true }).values())], [row, row, row]);
      };
      for (let i = 0; i < 100; i++) {
        const [first, again] = tap.overlap(i);
        const [[x, own], [y, others]] = first ? [[umbra, "umbra"], [acme, "acme"]] : [[acme, "acme"], [umbra, "umbra"]];
        await x.begin(async (sql) => {
          await ask(sql, own, i);
          await ask(y, others, i);
        });
        if (again) await ask(x, own, i);
      }
    }),

  sixteenClients: () => {
    const tenants = [...Array(18).keys()].map((i) => ["acme", "umbra"][i % 2]); // the first two own the tables
    return clients(tenants.map((tenant) => tap.url(tenant)), async (...all) => {
      const pids = new Set();
      let altering = 2;
      const read = async (sql, tenant, i) => {
        const kind = i % 3;
        const query = `select tenant, $1::int + ${kind}, pg_backend_pid() from crowd`;
        const got = await sql.unsafe(query, [i], { prepare: true }).values();
        assert.deepEqual([...got].map(([name, number]) => [name, number]), Array(16).fill([tenant, i + kind]));
        for (const [, , pid] of got) pids.add(pid);
      };
      const client = async (c, tenant, id) => {
        for (let i = 0; i < 20 || altering > 0; i++) {
          await read(c, tenant, i);
          await c.begin(async (sql) => {
            await read(sql, tenant, i);
            await read(sql, tenant, i + 1);
          });
          await c.begin(async (sql) => {
            for (const n of [2 * i + 1, 2 * i + 2]) {
              const got = await sql`update crowd set n = n + 1 where id = ${id} returning tenant, n`.values();
              assert.deepEqual([...got], [[tenant, n]]);
            }
          });
        }
      };
      const alterer = async (c) => {
        for (let i = 0; i < 20; i++) {
          await c`alter table crowd add column extra int`;
          await c`alter table crowd drop column extra`;
        }
        altering--;
      };
      const owners = all.slice(0, 2);
      for (const [i, c] of owners.entries()) await crowd(c, tenants[i]);
      for (const c of all) await c`select`; // connects
      const working = all.slice(2).map((c, id) => client(c, tenants[id], id));
      await Promise.all([...owners.map(alterer), ...working]);
      for (const c of owners) await c`drop table crowd`;
      assert(pids.size >= 2, "only one server connection was used");
    });
  },
});
