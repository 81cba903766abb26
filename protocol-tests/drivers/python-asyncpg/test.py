"""asyncpg, with the cache of named prepared statements that it has by default, and its pool."""

import asyncio
import contextlib
import datetime
import decimal
import io
import json
import pathlib
import ssl
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import asyncpg
import tap


@contextlib.asynccontextmanager
async def connect(tenant="acme", way="user", **parameters):
    c = await asyncpg.connect(tap.url(tenant, way), timeout=10, **parameters)
    try:
        yield c
    finally:
        await c.close(timeout=5)


@contextlib.asynccontextmanager
async def two(tenants=("acme", "acme")):
    async with connect(tenants[0]) as a, connect(tenants[1]) as b:
        yield a, b


async def rows(c, sql, *parameters):
    return [tuple(row) for row in await c.fetch(sql, *parameters)]


async def usable(c, tenant="acme"):
    assert await rows(c, "select name from who") == [(tenant,)]


async def fails(sqlstate, act):
    try:
        await act
    except asyncpg.PostgresError as error:
        assert error.sqlstate == sqlstate, f"{error.sqlstate} instead of {sqlstate}: {error}"
    else:
        raise AssertionError(f"no error instead of {sqlstate}")


async def item(c):
    await c.execute("drop table if exists item")
    await c.execute("create table item (id int primary key)")


async def crowd(c, tenant):
    await c.execute("drop table if exists crowd")
    await c.execute("create table crowd (tenant text, id int, n int)")
    await c.execute("insert into crowd select $1, id, 0 from generate_series(0, 15) id", tenant)


async def connect_options():
    async with connect(way="options") as c:
        await usable(c)


async def connect_user():
    for tenant in "acme", "umbra":
        async with connect(tenant) as c:
            await usable(c, tenant)


async def connect_database():
    async with connect(way="database") as c:
        await usable(c)


async def connect_database_at():
    async with connect(way="database-at") as c:
        await usable(c)


def verified():
    return ssl.create_default_context(cafile=tap.CA)


async def connect_sni():
    async with connect(way=None, host=tap.SNI_HOST, port=tap.PORT, ssl=verified()) as c:
        await usable(c)


async def tls():
    async with connect(host="localhost", port=tap.PORT, ssl=verified()) as c:
        await usable(c)
    try:
        async with connect(host="other.example", port=tap.PORT, ssl=verified()):
            raise AssertionError("the name in the certificate was not checked")
    except ssl.SSLCertVerificationError as error:
        assert "other.example" in str(error), error


async def autocommit():
    async with two() as (a, b):
        await item(a)
        await a.execute("insert into item values ($1)", 1)
        assert await b.fetchval("select count(*) from item") == 1
        await a.execute("drop table item")


async def transaction():
    async with two() as (a, b):
        await item(a)
        async with a.transaction():
            await a.execute("insert into item values ($1)", 1)
            assert await b.fetchval("select count(*) from item") == 0
        assert await b.fetchval("select count(*) from item") == 1
        rolled_back = a.transaction()
        await rolled_back.start()
        await a.execute("insert into item values ($1)", 2)
        await rolled_back.rollback()
        assert await b.fetchval("select array_agg(id) from item") == [1]
        await a.execute("drop table item")


async def transaction_error():
    async with connect() as c:
        await item(c)
        broken = c.transaction()
        await broken.start()
        await c.execute("insert into item values (1)")
        await fails("22012", c.fetchval("select 1 / $1::int", 0))
        await fails("25P02", c.fetchval("select 1"))
        await broken.rollback()
        await usable(c)
        assert await c.fetchval("select count(*) from item") == 0
        await c.execute("drop table item")


async def savepoint():
    async with connect() as c:
        await item(c)

        async def inner():
            async with c.transaction():
                await c.execute("insert into item values (2)")
                await c.execute("insert into item values ($1)", 1)

        async with c.transaction():
            await c.execute("insert into item values (1)")
            await fails("23505", inner())
            await c.execute("insert into item values (3)")
        assert await c.fetchval("select array_agg(id order by id) from item") == [1, 3]
        await c.execute("drop table item")


async def prepared():
    pids = set()

    async def ask(c, i):
        sql = f"select name, $1::int + {i % 5}, pg_backend_pid() from who where name = $2"
        name, number, pid = await c.fetchrow(sql, i, "acme")
        assert (name, number) == ("acme", i + i % 5)
        pids.add(pid)

    async with two() as (a, b):
        for i in range(60):
            first, again = tap.overlap(i)
            x, y = (a, b)[first], (b, a)[first]
            async with x.transaction():
                await ask(x, i)
                await ask(y, i)
            if again:
                await ask(x, i)
    assert len(pids) >= 2, "only one server connection was used"


async def batch():
    async with connect() as c:
        await c.execute("drop table if exists item")
        await c.execute("create table item (id int, at serial)")
        await c.executemany("insert into item (id) values ($1)", [(n,) for n in range(100)])
        assert await c.fetchval("select array_agg(id order by at) from item") == list(range(100))
        got = await c.fetchmany("select $1::int * 2", [(n,) for n in range(100)])
        assert [row[0] for row in got] == list(range(0, 200, 2))
        await fails("22012", c.executemany("insert into item (id) values (1 / $1::int)", [(1,), (0,), (1,)]))
        await usable(c)
        assert await c.fetchval("select count(*) from item") == 100
        await c.execute("drop table item")


async def copy_in():
    async with connect() as c:
        await item(c)
        await c.copy_to_table("item", source=io.BytesIO(b"".join(b"%d\n" % n for n in range(10_000))))
        assert await rows(c, "select count(*), sum(id) from item") == [(10_000, 49_995_000)]
        await c.execute("truncate item")
        await c.copy_records_to_table("item", records=[(n,) for n in range(10_000)])  # binary
        assert await rows(c, "select count(*), sum(id) from item") == [(10_000, 49_995_000)]
        await c.execute("drop table item")


async def copy_out():
    async with connect() as c:
        out = io.BytesIO()
        await c.copy_from_query("select n, name from who, generate_series(1, $1::int) n", 10_000, output=out)
        assert out.getvalue() == b"".join(b"%d\tacme\n" % n for n in range(1, 10_001))


async def copy_in_aborted():
    class GivenUp(Exception):
        pass

    async def lines():
        yield b"1\n"
        raise GivenUp

    async with connect() as c:
        await item(c)
        try:
            await c.copy_to_table("item", source=lines())  # the driver hides the 57014 behind what gave it up
        except GivenUp:
            pass
        else:
            raise AssertionError("a COPY that was given up succeeded")
        await fails("22P02", c.copy_to_table("item", source=io.BytesIO(b"1\nx\n")))
        await usable(c)
        assert await c.fetchval("select count(*) from item") == 0
        await c.execute("drop table item")


async def cursor():
    async with two() as (a, b):
        got = []
        async with a.transaction():
            async for (n,) in a.cursor("select n from generate_series(1, $1::int) n", 1000, prefetch=100):
                got.append(n)
                if n % 100 == 0:
                    await usable(b)
        assert got == list(range(1, 1001))


async def cancel():
    async with two() as (c, other):
        begun = time.monotonic()
        sleep = asyncio.create_task(c.execute("select pg_sleep(10)"))
        while not await other.fetch(tap.ASLEEP):
            await asyncio.sleep(0.01)  # between two looks
        sleep.cancel()  # sends the cancel request, and hides the 57014
        try:
            await sleep
            raise AssertionError("not cancelled")
        except asyncio.CancelledError:
            pass
        await usable(c)
        await fails("57014", c.execute("set statement_timeout = 300; select pg_sleep(10)"))
        assert time.monotonic() - begun < 5
        await usable(c)


async def notify():
    async with two() as (a, b):
        got = asyncio.Queue()
        await a.add_listener("news", lambda _c, _pid, channel, payload: got.put_nowait((channel, payload)))
        async with b.transaction():
            await b.execute("select pg_notify('news', 'hello')")
            await asyncio.sleep(0.2)
            assert got.empty(), "before the commit"
        assert await asyncio.wait_for(got.get(), 5) == ("news", "hello")


async def large():
    text = "0123456789abcdef" * (20 << 20 >> 4)
    async with connect() as c:
        assert await c.fetchval("select $1::text", text) == text
        await usable(c)


async def types():
    values = {
        "int8": -(2**62),
        "numeric": decimal.Decimal("12345678901234567890.000123"),
        "text": "žluťoučký 🐘 'quoted' \\",
        "bytea": bytes(range(256)),
        "timestamptz": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.timezone.utc),
        "jsonb": json.dumps({"a": [1, None, "ß"]}, ensure_ascii=False),
        "int[]": [1, None, 3],
        "bool": True,
        "uuid": uuid.UUID("6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f"),
        "date": None,
    }
    sql = "select " + ", ".join(f"${number}::{name}" for number, name in enumerate(values, 1))
    async with connect() as c:
        assert await rows(c, sql, *values.values()) == [tuple(values.values())]


async def pool_reset():
    async with asyncpg.create_pool(tap.url(), min_size=1, max_size=1, timeout=10) as pool:
        before = await pool.fetchval("show statement_timeout")
        for _ in range(3):
            async with pool.acquire() as c:
                await c.execute("set statement_timeout = '12345ms'")
                assert await c.fetchval("show statement_timeout") == "12345ms"
            async with pool.acquire() as c:
                assert await c.fetchval("show statement_timeout") == before
                await usable(c)


async def session_state():
    async with two() as (a, b):
        path = await b.fetchval("show search_path")
        await a.execute("set statement_timeout = '12345ms'")
        await a.execute("set search_path = pg_catalog, pg_temp")
        await b.execute("set statement_timeout = '23456ms'")
        for _ in range(10):
            for c, timeout, where in (a, "12345ms", "pg_catalog, pg_temp"), (b, "23456ms", path):
                async with c.transaction():
                    assert await c.fetchval("show statement_timeout") == timeout
                assert await c.fetchval("show search_path") == where
        await usable(b)


async def two_tenants():
    async with two(("acme", "umbra")) as (acme, umbra):

        async def ask(c, i):
            sql = f"select name, $1::int + {i % 3} from who, generate_series(1, 3)"
            tenant = "acme" if c is acme else "umbra"
            assert await rows(c, sql, i) == [(tenant, i + i % 3)] * 3

        for i in range(100):
            first, again = tap.overlap(i)
            x, y = (acme, umbra)[first], (umbra, acme)[first]
            async with x.transaction():
                await ask(x, i)
                await ask(y, i)
            if again:
                await ask(x, i)


async def sixteen_clients():
    tenants = ["acme", "umbra"]
    altering = set(tenants)
    pids = set()

    async def read(c, tenant, i):
        sql = f"select tenant, $1::int + {i % 3}, pg_backend_pid() from crowd"
        got = await rows(c, sql, i)
        assert [row[:2] for row in got] == [(tenant, i + i % 3)] * 16
        pids.update(row[2] for row in got)

    async def client(c, tenant, id):
        i = 0
        while i < 20 or altering:
            await read(c, tenant, i)
            async with c.transaction():
                await read(c, tenant, i)
                await read(c, tenant, i + 1)
            async with c.transaction():
                for n in 2 * i + 1, 2 * i + 2:
                    sql = "update crowd set n = n + 1 where id = $1 returning tenant, n"
                    assert await rows(c, sql, id) == [(tenant, n)]
            i += 1

    async def alterer(c, tenant):
        try:
            for _ in range(20):
                await c.execute("alter table crowd add column extra int")
                await c.execute("alter table crowd drop column extra")
        finally:
            altering.remove(tenant)

    async with contextlib.AsyncExitStack() as stack:
        owners = {tenant: await stack.enter_async_context(connect(tenant)) for tenant in tenants}
        for tenant, c in owners.items():
            await crowd(c, tenant)
        acts = [alterer(c, tenant) for tenant, c in owners.items()]
        for id in range(16):
            tenant = tenants[id % 2]
            acts.append(client(await stack.enter_async_context(connect(tenant)), tenant, id))
        for error in await asyncio.gather(*acts, return_exceptions=True):
            if error:
                raise error
        for c in owners.values():
            await c.execute("drop table crowd")
    assert len(pids) >= 2, "only one server connection was used"


tap.resolve_names()
tap.run(globals())
