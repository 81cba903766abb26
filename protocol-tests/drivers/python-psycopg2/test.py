"""psycopg2: everything is a simple query with the parameters written into it, and its pool."""

import contextlib
import datetime
import decimal
import functools
import io
import pathlib
import select
import sys
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import psycopg2
import psycopg2.extras
import psycopg2.pool
import tap

psycopg2.extras.register_uuid()


@contextlib.contextmanager
def connect(tenant="acme", way="user", autocommit=True, **parameters):
    c = psycopg2.connect(tap.url(tenant, way), connect_timeout=10, **parameters)
    try:
        c.autocommit = autocommit
        yield c
    finally:
        c.close()


def execute(c, sql, *parameters):
    """The rows, if there are any. A cursor of its own each: the driver keeps nothing."""
    with c.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else None


def value(c, sql, *parameters):
    return execute(c, sql, *parameters)[0][0]


def usable(c, tenant="acme"):
    assert execute(c, "select name from who") == [(tenant,)]


def fails(sqlstate, act):
    try:
        act()
    except psycopg2.Error as error:
        assert error.pgcode == sqlstate, f"{error.pgcode} instead of {sqlstate}: {error}"
    else:
        raise AssertionError(f"no error instead of {sqlstate}")


@contextlib.contextmanager
def begun(c):
    """A transaction in a session that is otherwise in autocommit."""
    c.autocommit = False
    yield
    c.commit()
    c.autocommit = True


def item(c):
    execute(c, "drop table if exists item")
    execute(c, "create table item (id int primary key)")


def crowd(c, tenant):
    execute(c, "drop table if exists crowd")
    execute(c, "create table crowd (tenant text, id int, n int)")
    execute(c, "insert into crowd select %s, id, 0 from generate_series(0, 15) id", tenant)


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
        assert c.info.ssl_in_use
        usable(c)
    try:
        with connect(host="other.example", **verified):
            raise AssertionError("the name in the certificate was not checked")
    except psycopg2.OperationalError as error:
        assert "does not match host name" in str(error), error


def autocommit():
    with connect() as a, connect() as b:
        item(a)
        execute(a, "insert into item values (%s)", 1)
        assert value(b, "select count(*) from item") == 1
        execute(a, "drop table item")


def transaction():
    with connect(autocommit=False) as a, connect() as b:
        item(a)
        a.commit()
        execute(a, "insert into item values (1)")
        assert value(b, "select count(*) from item") == 0
        a.commit()
        assert value(b, "select count(*) from item") == 1
        execute(a, "insert into item values (2)")
        a.rollback()
        assert value(b, "select array_agg(id) from item") == [1]
        execute(a, "drop table item")
        a.commit()


def transaction_error():
    with connect(autocommit=False) as c:
        item(c)
        c.commit()
        execute(c, "insert into item values (1)")
        fails("22012", lambda: execute(c, "select 1 / %s", 0))
        fails("25P02", lambda: execute(c, "select 1"))
        c.rollback()
        usable(c)
        assert value(c, "select count(*) from item") == 0
        execute(c, "drop table item")
        c.commit()


def savepoint():
    with connect(autocommit=False) as c:
        item(c)
        execute(c, "insert into item values (1)")
        execute(c, "savepoint here")
        execute(c, "insert into item values (2)")
        fails("23505", lambda: execute(c, "insert into item values (%s)", 1))
        execute(c, "rollback to here")
        execute(c, "insert into item values (3)")
        c.commit()
        assert value(c, "select array_agg(id order by id) from item") == [1, 3]
        execute(c, "drop table item")
        c.commit()


def prepared():
    """The driver prepares nothing, so PREPARE is SQL's; and what it sends without."""
    pids = set()

    def ask(c, i):
        for row in (
            execute(c, f"select name, %s::int + {i % 5}, pg_backend_pid() from who where name = %s", i, "acme"),
            execute(c, f"execute kind_{i % 5} (%s, %s)", i, "acme"),
        ):
            name, number, pid = row[0]
            assert (name, number) == ("acme", i + i % 5)
            pids.add(pid)

    with connect() as a, connect() as b:
        for c in a, b:
            for kind in range(5):
                execute(c, f"prepare kind_{kind} as select name, $1::int + {kind}, pg_backend_pid() from who where name = $2")
        for i in range(60):
            first, again = tap.overlap(i)
            x, y = (a, b)[first], (b, a)[first]
            with begun(x):
                ask(x, i)
                ask(y, i)
            if again:
                ask(x, i)
    assert len(pids) >= 2, "only one server connection was used"


def batch():
    with connect() as c:
        execute(c, "drop table if exists item")
        execute(c, "create table item (id int, at serial)")
        with c.cursor() as cursor:
            rows = [(n,) for n in range(100)]
            psycopg2.extras.execute_batch(cursor, "insert into item values (%s)", rows)
            psycopg2.extras.execute_values(cursor, "insert into item values %s", rows)
            assert value(c, "select array_agg(id order by at) from item") == [*range(100), *range(100)]
            broken = [(1,), (0,), (1,)]
            fails("22012", lambda: psycopg2.extras.execute_batch(cursor, "insert into item values (1 / %s)", broken))
        usable(c)
        execute(c, "drop table item")


def copy_in():
    with connect() as c:
        item(c)
        with c.cursor() as cursor:
            cursor.copy_expert("copy item from stdin", io.StringIO("".join(f"{n}\n" for n in range(10_000))))
        assert execute(c, "select count(*), sum(id) from item") == [(10_000, 49_995_000)]
        execute(c, "drop table item")


def copy_out():
    with connect() as c, c.cursor() as cursor:
        out = io.StringIO()
        cursor.copy_expert("copy (select n, name from who, generate_series(1, 10000) n) to stdout", out)
        assert out.getvalue() == "".join(f"{n}\tacme\n" for n in range(1, 10_001))


def copy_in_aborted():
    class GivesUp(io.StringIO):
        def read(self, size=-1):
            raise RuntimeError("given up")  # the driver sends it in a CopyFail

    with connect() as c, c.cursor() as cursor:
        item(c)
        fails("57014", lambda: cursor.copy_expert("copy item from stdin", GivesUp()))
        fails("22P02", lambda: cursor.copy_expert("copy item from stdin", io.StringIO("1\nx\n")))
        usable(c)
        assert value(c, "select count(*) from item") == 0
        execute(c, "drop table item")


def cursor():
    with connect(autocommit=False) as a, connect() as b:
        got = []
        with a.cursor("numbers") as numbers:
            numbers.itersize = 100
            numbers.execute("select n from generate_series(1, %s) n", (1000,))
            for (n,) in numbers:
                got.append(n)
                if n % 100 == 0:
                    usable(b)
        a.commit()
        assert got == list(range(1, 1001))


def cancel():
    with connect() as c, connect() as other:

        def once_asleep():
            tap.poll(lambda: execute(other, tap.ASLEEP))
            c.cancel()

        threading.Thread(target=once_asleep).start()
        start = time.monotonic()
        fails("57014", lambda: execute(c, "select pg_sleep(10)"))
        assert time.monotonic() - start < 5
        usable(c)


def notify():
    def news(c, seconds):
        select.select([c], [], [], seconds)
        c.poll()
        return [(message.channel, message.payload) for message in c.notifies]

    with connect() as a, connect(autocommit=False) as b:
        execute(a, "listen news")
        execute(b, "select pg_notify('news', 'hello')")
        assert news(a, 0.2) == [], "before the commit"
        b.commit()
        assert news(a, 5) == [("news", "hello")]


def large():
    text = "0123456789abcdef" * (20 << 20 >> 4)
    with connect() as c:
        assert value(c, "select %s", text) == text
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
    sql = "select " + ", ".join(f"(%s)::{name}" for name in values)
    parameters = [psycopg2.extras.Json(v) if name == "jsonb" else v for name, v in values.items()]
    with connect() as c:
        (row,) = execute(c, sql, *parameters)
        assert [bytes(v) if isinstance(v, memoryview) else v for v in row] == list(values.values())


def pool_reset():
    pool = psycopg2.pool.SimpleConnectionPool(1, 1, tap.url())

    @contextlib.contextmanager
    def borrowed():
        c = pool.getconn()
        yield c
        c.reset()  # ABORT, RESET ALL and SET SESSION AUTHORIZATION DEFAULT; the pool itself only rolls back
        pool.putconn(c)

    with borrowed() as c:
        before = value(c, "show statement_timeout")
    for _ in range(3):
        with borrowed() as c:
            execute(c, "set statement_timeout = '12345ms'")
            c.commit()
            assert value(c, "show statement_timeout") == "12345ms"
        with borrowed() as c:
            assert value(c, "show statement_timeout") == before
            usable(c)
    pool.closeall()


def session_state():
    with connect() as a, connect() as b:
        path = value(b, "show search_path")
        execute(a, "set statement_timeout = '12345ms'")
        execute(a, "set search_path = pg_catalog, pg_temp")
        execute(b, "set statement_timeout = '23456ms'")
        for _ in range(10):
            for c, timeout, where in (a, "12345ms", "pg_catalog, pg_temp"), (b, "23456ms", path):
                with begun(c):
                    assert value(c, "show statement_timeout") == timeout
                assert value(c, "show search_path") == where
        usable(b)


def two_tenants():
    with connect("acme") as acme, connect("umbra") as umbra:

        def ask(c, i):
            sql = f"select name, %s::int + {i % 3} from who, generate_series(1, 3)"
            tenant = "acme" if c is acme else "umbra"
            assert execute(c, sql, i) == [(tenant, i + i % 3)] * 3

        for i in range(100):
            first, again = tap.overlap(i)
            x, y = (acme, umbra)[first], (umbra, acme)[first]
            with begun(x):
                ask(x, i)
                ask(y, i)
            if again:
                ask(x, i)


def sixteen_clients():
    """What the driver sends by itself: SQL's PREPARE would keep a server for its client alone."""
    tenants = ["acme", "umbra"]
    altering = set(tenants)
    pids = set()

    def read(c, tenant, i):
        rows = execute(c, f"select tenant, %s::int + {i % 3}, pg_backend_pid() from crowd", i)
        assert [row[:2] for row in rows] == [(tenant, i + i % 3)] * 16
        pids.update(row[2] for row in rows)

    def client(c, tenant, id):
        i = 0
        while i < 20 or altering:
            read(c, tenant, i)
            with c:
                read(c, tenant, i)
                read(c, tenant, i + 1)
            with c:
                for n in 2 * i + 1, 2 * i + 2:
                    sql = "update crowd set n = n + 1 where id = %s returning tenant, n"
                    assert execute(c, sql, id) == [(tenant, n)]
            i += 1

    def alterer(c, tenant):
        try:
            for _ in range(20):
                execute(c, "alter table crowd add column extra int")
                execute(c, "alter table crowd drop column extra")
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
            execute(c, "drop table crowd")
    assert len(pids) >= 2, "only one server connection was used"


tap.run(globals())
