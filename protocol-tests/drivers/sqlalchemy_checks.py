"""The checks that SQLAlchemy asks the same way of every driver.

A program gives them its `engine(tenant, way)`, and its `together(acts)` that runs them all at once.
"""

import contextlib
import datetime
import decimal
import functools
import uuid

import sqlalchemy
from sqlalchemy import bindparam, cast, event, exc, select, text
from sqlalchemy.dialects import postgresql

import tap

engine = together = None  # the program's


@contextlib.contextmanager
def connect(tenant="acme", way="user", autocommit=True, **options):
    own = engine(tenant, way, **options)
    try:
        with own.connect() as c:
            yield c.execution_options(isolation_level="AUTOCOMMIT") if autocommit else c
    finally:
        own.dispose()


def rows(c, sql, **parameters):
    return [tuple(row) for row in c.execute(text(sql), parameters)]


def value(c, sql, **parameters):
    return c.scalar(text(sql), parameters)


def execute(c, sql, **parameters):
    c.execute(text(sql), parameters)


def usable(c, tenant="acme"):
    assert rows(c, "select name from who") == [(tenant,)]


def fails(sqlstate, act):
    try:
        act()
    except exc.DBAPIError as error:
        got = getattr(error.orig, "sqlstate", None)
        assert got == sqlstate, f"{got} instead of {sqlstate}: {error}"
    else:
        raise AssertionError(f"no error instead of {sqlstate}")


def item(c):
    execute(c, "drop table if exists item")
    execute(c, "create table item (id int primary key)")


def crowd(c, tenant):
    execute(c, "drop table if exists crowd")
    execute(c, "create table crowd (tenant text, id int, n int)")
    execute(c, "insert into crowd select :tenant, id, 0 from generate_series(0, 15) id", tenant=tenant)


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


def autocommit():
    with connect() as a, connect() as b:
        item(a)
        execute(a, "insert into item values (:n)", n=1)
        assert value(b, "select count(*) from item") == 1
        execute(a, "drop table item")


def transaction():
    with connect(autocommit=False) as a, connect() as b:
        item(a)
        a.commit()
        with a.begin():
            execute(a, "insert into item values (:n)", n=1)
            assert value(b, "select count(*) from item") == 0
        assert value(b, "select count(*) from item") == 1
        execute(a, "insert into item values (:n)", n=2)
        a.rollback()
        assert value(b, "select array_agg(id) from item") == [1]
        execute(a, "drop table item")
        a.commit()


def transaction_error():
    with connect(autocommit=False) as c:
        item(c)
        c.commit()
        execute(c, "insert into item values (1)")
        fails("22012", lambda: execute(c, "select 1 / cast(:n as int)", n=0))
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

        def inner():
            with c.begin_nested():
                execute(c, "insert into item values (2)")
                execute(c, "insert into item values (:n)", n=1)

        fails("23505", inner)
        execute(c, "insert into item values (3)")
        c.commit()
        assert value(c, "select array_agg(id order by id) from item") == [1, 3]
        execute(c, "drop table item")
        c.commit()


def interleave(rounds, x, y, ask):
    """Two clients in transactions that overlap, in every order: servers change hands."""
    for i in range(rounds):
        first, again = tap.overlap(i)
        a, b = (x, y)[first], (y, x)[first]
        ask(a, i)
        ask(b, i)
        b.commit()
        a.commit()
        if again:
            ask(a, i)
            a.commit()


def prepared():
    pids = set()

    def ask(c, i):
        sql = f"select name, cast(:n as int) + {i % 5}, pg_backend_pid() from who where name = :name"
        ((name, number, pid),) = rows(c, sql, n=i, name="acme")
        assert (name, number) == ("acme", i + i % 5)
        pids.add(pid)

    with connect(autocommit=False) as a, connect(autocommit=False) as b:
        interleave(60, a, b, ask)
    assert len(pids) >= 2, "only one server connection was used"


def batch():
    """executemany, and the many-rows INSERT ... RETURNING that SQLAlchemy makes by itself."""
    metadata = sqlalchemy.MetaData()
    table = sqlalchemy.Table("item", metadata, sqlalchemy.Column("at", sqlalchemy.Integer, primary_key=True),
                             sqlalchemy.Column("id", sqlalchemy.Integer))  # fmt: skip
    with connect(autocommit=False) as c:
        metadata.drop_all(c)
        metadata.create_all(c)
        values = [{"id": n} for n in range(100)]
        c.execute(table.insert(), values)
        returned = c.execute(table.insert().returning(table.c.id, sort_by_parameter_order=True), values)
        assert [row.id for row in returned] == list(range(100))
        assert list(c.scalars(select(table.c.id).order_by(table.c.at))) == [*range(100), *range(100)]
        c.commit()
        broken = text("insert into item (id) values (1 / cast(:n as int))")
        fails("22012", lambda: c.execute(broken, [{"n": 1}, {"n": 0}, {"n": 1}]))
        c.rollback()
        usable(c)
        metadata.drop_all(c)
        c.commit()


def cursor():
    with connect(autocommit=False) as a, connect() as b:
        got = []
        numbers = text("select n from generate_series(1, cast(:last as int)) n")
        for (n,) in a.execution_options(yield_per=100).execute(numbers, {"last": 1000}):
            got.append(n)
            if n % 100 == 0:
                usable(b)
        assert got == list(range(1, 1001))


def large():
    long = "0123456789abcdef" * (20 << 20 >> 4)
    with connect() as c:
        assert value(c, "select cast(:long as text)", long=long) == long
        usable(c)


def types():
    values = [
        (sqlalchemy.BigInteger(), -(2**62)),
        (sqlalchemy.Numeric(), decimal.Decimal("12345678901234567890.000123")),
        (sqlalchemy.Text(), "žluťoučký 🐘 'quoted' \\"),
        (sqlalchemy.LargeBinary(), bytes(range(256))),
        (sqlalchemy.DateTime(timezone=True), datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.timezone.utc)),
        (postgresql.JSONB(), {"a": [1, None, "ß"]}),
        (postgresql.ARRAY(sqlalchemy.Integer), [1, None, 3]),
        (sqlalchemy.Boolean(), True),
        (sqlalchemy.Uuid(), uuid.UUID("6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f")),
        (sqlalchemy.Date(), None),
    ]
    columns = [cast(bindparam(None, given, kind), kind) for kind, given in values]
    with connect() as c:
        (row,) = c.execute(select(*columns))
        assert list(row) == [given for _, given in values]


def pool_reset():
    own = engine("acme", "user", pool_size=1, max_overflow=0)

    @event.listens_for(own, "reset")
    def reset(connection, _record, _state):  # the pool itself only rolls back
        connection.rollback()
        cursor = connection.cursor()
        cursor.execute("reset all")
        cursor.close()
        connection.commit()

    try:
        with own.connect() as c:
            before = value(c, "show statement_timeout")
        for _ in range(3):
            with own.connect() as c:
                execute(c, "set statement_timeout = '12345ms'")
                c.commit()
                assert value(c, "show statement_timeout") == "12345ms"
            with own.connect() as c:
                assert value(c, "show statement_timeout") == before
                usable(c)
    finally:
        own.dispose()


def session_state():
    with connect(autocommit=False) as a, connect(autocommit=False) as b:
        path = value(b, "show search_path")
        execute(a, "set statement_timeout = '12345ms'")
        execute(a, "set search_path = pg_catalog, pg_temp")
        execute(b, "set statement_timeout = '23456ms'")
        for _ in range(10):
            for c, timeout, where in (a, "12345ms", "pg_catalog, pg_temp"), (b, "23456ms", path):
                c.commit()
                assert value(c, "show statement_timeout") == timeout
                assert value(c, "show search_path") == where
        usable(b)


def two_tenants():
    with connect("acme", autocommit=False) as acme, connect("umbra", autocommit=False) as umbra:

        def ask(c, i):
            sql = f"select name, cast(:n as int) + {i % 3} from who, generate_series(1, 3)"
            tenant = "acme" if c is acme else "umbra"
            assert rows(c, sql, n=i) == [(tenant, i + i % 3)] * 3

        interleave(100, acme, umbra, ask)


def sixteen_clients():
    tenants = ["acme", "umbra"]
    altering = set(tenants)
    pids = set()

    def read(c, tenant, i):
        got = rows(c, f"select tenant, cast(:n as int) + {i % 3}, pg_backend_pid() from crowd", n=i)
        assert [row[:2] for row in got] == [(tenant, i + i % 3)] * 16
        pids.update(row[2] for row in got)

    def client(c, tenant, id):
        i = 0
        while i < 20 or altering:
            with c.begin():
                read(c, tenant, i)
            with c.begin():
                read(c, tenant, i)
                read(c, tenant, i + 1)
            with c.begin():
                for n in 2 * i + 1, 2 * i + 2:
                    sql = "update crowd set n = n + 1 where id = :id returning tenant, n"
                    assert rows(c, sql, id=id) == [(tenant, n)]
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
            acts.append(functools.partial(client, stack.enter_context(connect(tenant, autocommit=False)), tenant, id))
        together(acts)
        for c in owners.values():
            execute(c, "drop table crowd")
    assert len(pids) >= 2, "only one server connection was used"
