"""psycopg 3, its pool and its pipeline mode."""

import contextlib
import datetime
import decimal
import functools
import pathlib
import sys
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import psycopg
import psycopg_pool
import tap
from psycopg.types.json import Jsonb


def connect(tenant="acme", way="user", autocommit=True, **parameters):
    return psycopg.connect(tap.url(tenant, way), autocommit=autocommit, connect_timeout=10, **parameters)


def usable(c, tenant="acme"):
    assert c.execute("select name from who").fetchall() == [(tenant,)]


def value(c, sql, *parameters):
    return c.execute(sql, parameters or None).fetchone()[0]


def fails(sqlstate, act):
    try:
        act()
    except psycopg.Error as error:
        assert error.sqlstate == sqlstate, f"{error.sqlstate} instead of {sqlstate}: {error}"
    else:
        raise AssertionError(f"no error instead of {sqlstate}")


def item(c):
    c.execute("drop table if exists item")
    c.execute("create table item (id int primary key)")


def crowd(c, tenant):
    c.execute("drop table if exists crowd")
    c.execute("create table crowd (tenant text, id int, n int)")
    c.execute("insert into crowd select %s, id, 0 from generate_series(0, 15) id", (tenant,))


def connect_options():
    with connect(way="options") as c:
        usable(c)


def connect_user():
    for tenant in "acme", "umbra":
        with connect(tenant) as c:
            usable(c, tenant)


def connect_database():
    with connect(way="database") as c:
        usable(c)


def connect_database_at():
    with connect(way="database-at") as c:
        usable(c)


def connect_sni():
    with connect(way=None, host=tap.SNI_HOST, hostaddr=tap.HOST, sslmode="verify-full", sslrootcert=tap.CA) as c:
        usable(c)


def tls():
    verified = {"hostaddr": tap.HOST, "sslmode": "verify-full", "sslrootcert": tap.CA}
    with connect(host="localhost", **verified) as c:
        assert c.pgconn.ssl_in_use
        usable(c)
    try:
        connect(host="other.example", **verified)
    except psycopg.OperationalError as error:
        assert "does not match host name" in str(error), error
    else:
        raise AssertionError("the name in the certificate was not checked")


def autocommit():
    with connect() as a, connect() as b:
        item(a)
        a.execute("insert into item values (1)")
        assert value(b, "select count(*) from item") == 1
        a.execute("drop table item")


def transaction():
    with connect() as a, connect() as b:
        item(a)
        with a.transaction():
            a.execute("insert into item values (1)")
            assert value(b, "select count(*) from item") == 0
        assert value(b, "select count(*) from item") == 1
        with a.transaction(force_rollback=True):
            a.execute("insert into item values (2)")
        assert value(b, "select array_agg(id) from item") == [1]
        a.execute("drop table item")


def transaction_error():
    with connect(autocommit=False) as c:
        item(c)
        c.commit()
        c.execute("insert into item values (1)")
        fails("22012", lambda: c.execute("select 1/0"))
        fails("25P02", lambda: c.execute("select 1"))
        c.rollback()
        usable(c)
        assert value(c, "select count(*) from item") == 0
        c.execute("drop table item")


def savepoint():
    with connect() as c:
        item(c)
        with c.transaction():
            c.execute("insert into item values (1)")

            def inner():
                with c.transaction():
                    c.execute("insert into item values (2)")
                    c.execute("insert into item values (1)")

            fails("23505", inner)
            c.execute("insert into item values (3)")
        assert value(c, "select array_agg(id order by id) from item") == [1, 3]
        c.execute("drop table item")


def prepared():
    with connect() as a, connect() as b:
        pids = set()

        def ask(c, i):
            sql = f"select name, %s::int + {i % 5}, pg_backend_pid() from who where name = %s"
            name, number, pid = c.execute(sql, (i, "acme")).fetchone()
            assert (name, number) == ("acme", i + i % 5)
            pids.add(pid)

        for i in range(60):
            first, again = tap.overlap(i)
            x, y = (a, b)[first], (b, a)[first]
            with x.transaction():
                ask(x, i)
                ask(y, i)
            if again:
                ask(x, i)
        assert a._prepared._names and b._prepared._names, "nothing was prepared by name"
        assert len(pids) >= 2, "only one server connection was used"


def batch():
    with connect() as c:
        with c.pipeline():
            cursors = [c.execute("select %s::int", (n,)) for n in range(100)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(100))

        def broken():
            with c.pipeline():
                for divisor in 1, 0, 1:
                    c.execute("select 1 / %s::int", (divisor,))

        fails("22012", broken)
        usable(c)
        item(c)
        c.cursor().executemany("insert into item values (%s)", [(n,) for n in range(100)])
        assert value(c, "select count(*) from item") == 100
        c.execute("drop table item")


def copy_in():
    with connect() as c:
        item(c)
        with c.cursor().copy("copy item from stdin") as copy:
            for n in range(10_000):
                copy.write_row((n,))
        assert c.execute("select count(*), sum(id) from item").fetchone() == (10_000, 49_995_000)
        c.execute("drop table item")


def copy_out():
    with connect() as c:
        with c.cursor().copy("copy (select n, name from who, generate_series(1, 10000) n) to stdout") as copy:
            rows = list(copy.rows())
        assert rows == [(str(n), "acme") for n in range(1, 10_001)]


def copy_in_aborted():
    with connect() as c:
        item(c)

        class GivenUp(Exception):
            pass

        try:
            with c.cursor().copy("copy item from stdin") as copy:
                copy.write_row((1,))
                raise GivenUp
        except GivenUp:
            pass

        def refused():
            with c.cursor().copy("copy item from stdin") as copy:
                copy.write("1\nx\n")

        fails("22P02", refused)
        usable(c)
        assert value(c, "select count(*) from item") == 0
        c.execute("drop table item")


def cursor():
    with connect() as a, connect() as b:
        with a.transaction(), a.cursor("rows") as rows:
            rows.itersize = 100
            rows.execute("select n from generate_series(1, 1000) n")
            got = []
            for (n,) in rows:
                got.append(n)
                if n % 100 == 0:
                    usable(b)
        assert got == list(range(1, 1001))


def cancel():
    with connect() as c, connect() as other:

        def once_asleep():
            tap.poll(lambda: other.execute(tap.ASLEEP).fetchall())
            c.cancel_safe()

        threading.Thread(target=once_asleep).start()
        begun = time.monotonic()
        fails("57014", lambda: c.execute("select pg_sleep(10)"))
        assert time.monotonic() - begun < 5
        usable(c)


def notify():
    with connect() as a, connect() as b:
        a.execute("listen news")
        with b.transaction():
            b.execute("select pg_notify('news', 'hello')")
            assert not list(a.notifies(timeout=0.2)), "before the commit"
        (got,) = a.notifies(timeout=5, stop_after=1)
        assert (got.channel, got.payload) == ("news", "hello")


def large():
    text = "0123456789abcdef" * (20 << 20 >> 4)
    with connect() as c:
        assert value(c, "select %s::text", text) == text
        usable(c)


def types():
    values = {
        "int8": -(2**62),
        "numeric": decimal.Decimal("12345678901234567890.000123"),
        "text": "žluťoučký 🐘 'quoted' \\",
        "bytea": bytes(range(256)),
        "timestamptz": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.timezone.utc),
        "jsonb": {"a": [1, None, "ß"]},
        "int[]": [1, None, 3],
        "bool": True,
        "uuid": uuid.UUID("6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f"),
        "date": None,
    }
    sql = "select " + ", ".join(f"%s::{name}" for name in values)
    parameters = [Jsonb(v) if name == "jsonb" else v for name, v in values.items()]
    with connect() as c:
        for binary in False, True:
            assert c.execute(sql, parameters, binary=binary).fetchone() == tuple(values.values())


def pool_reset():
    # The pool sends nothing of its own; and a DISCARD ALL would make psycopg lose count of its prepared statements.
    options = {"min_size": 1, "max_size": 1, "timeout": 10, "kwargs": {"autocommit": True}}
    with psycopg_pool.ConnectionPool(tap.url(), reset=lambda c: c.execute("reset all"), **options) as pool:
        with pool.connection() as c:
            before = value(c, "show statement_timeout")
        for _ in range(3):
            with pool.connection() as c:
                c.execute("set statement_timeout = '12345ms'")
                assert value(c, "show statement_timeout") == "12345ms"
            with pool.connection() as c:
                assert value(c, "show statement_timeout") == before
                usable(c)


def session_state():
    with connect() as a, connect() as b:
        path = value(b, "show search_path")
        a.execute("set statement_timeout = '12345ms'")
        a.execute("set search_path = pg_catalog, pg_temp")
        b.execute("set statement_timeout = '23456ms'")
        for _ in range(10):
            for c, timeout, where in (a, "12345ms", "pg_catalog, pg_temp"), (b, "23456ms", path):
                with c.transaction():
                    assert value(c, "show statement_timeout") == timeout
                assert value(c, "show search_path") == where
        usable(b)


def two_tenants():
    with connect("acme") as acme, connect("umbra") as umbra:

        def ask(c, i):
            sql = f"select name, %s::int + {i % 3} from who, generate_series(1, 3)"
            tenant = "acme" if c is acme else "umbra"
            assert c.execute(sql, (i,)).fetchall() == [(tenant, i + i % 3)] * 3

        for i in range(100):
            first, again = tap.overlap(i)
            x, y = (acme, umbra)[first], (umbra, acme)[first]
            with x.transaction():
                ask(x, i)
                ask(y, i)
            if again:
                ask(x, i)


def sixteen_clients():
    tenants = ["acme", "umbra"]
    altering = set(tenants)
    pids = set()

    def read(c, tenant, i):
        sql = f"select tenant, %s::int + {i % 3}, pg_backend_pid() from crowd"
        rows = c.execute(sql, (i,)).fetchall()
        assert [row[:2] for row in rows] == [(tenant, i + i % 3)] * 16
        pids.update(row[2] for row in rows)

    def client(c, tenant, id):
        i = 0
        while i < 20 or altering:
            read(c, tenant, i)
            with c.transaction():
                read(c, tenant, i)
                read(c, tenant, i + 1)
            with c.transaction():
                for n in 2 * i + 1, 2 * i + 2:
                    sql = "update crowd set n = n + 1 where id = %s returning tenant, n"
                    assert c.execute(sql, (id,)).fetchall() == [(tenant, n)]
            i += 1

    def alterer(c, tenant):
        try:
            for _ in range(20):
                c.execute("alter table crowd add column extra int")
                c.execute("alter table crowd drop column extra")
        finally:
            altering.remove(tenant)

    with contextlib.ExitStack() as stack:
        owners = {tenant: stack.enter_context(connect(tenant)) for tenant in tenants}
        for tenant, c in owners.items():
            crowd(c, tenant)
        acts = [functools.partial(alterer, c, tenant) for tenant, c in owners.items()]
        for id in range(16):
            tenant = tenants[id % 2]
            acts.append(functools.partial(client, stack.enter_context(connect(tenant)), tenant, id))
        tap.together(acts)
        for c in owners.values():
            c.execute("drop table crowd")
    assert len(pids) >= 2, "only one server connection was used"


tap.run(globals())
