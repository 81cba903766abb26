"""SQLAlchemy over asyncpg. What it has no words of its own for (COPY, cancel, LISTEN) goes to the driver's connection.

An asynchronous engine is a synchronous one that runs in a greenlet and awaits there; so do the checks.
"""

import asyncio
import io
import pathlib
import ssl
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import asyncpg
import sqlalchemy_checks
import tap
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only, greenlet_spawn
from sqlalchemy_checks import connect, execute, fails, item, rows, usable, value


def engine(tenant, way, connect_args=None, **options):
    connect_args = connect_args or {}
    if way == "options":  # the URL's parameters are asyncpg.connect's, which has none of that name
        way, connect_args = None, {"server_settings": {"options": f"-c app.tenant={tenant}"}}
    return create_async_engine(tap.url(tenant, way, "postgresql+asyncpg"), connect_args=connect_args, **options).sync_engine


def driver(c):
    return c.connection.driver_connection


def verified(host, way="user"):
    parameters = {"host": host, "ssl": ssl.create_default_context(cafile=tap.CA)}
    return connect(way=way, connect_args=parameters)


def connect_sni():
    with verified(tap.SNI_HOST, way=None) as c:
        usable(c)


def tls():
    with verified("localhost") as c:
        usable(c)
    try:
        with verified("other.example"):
            raise AssertionError("the name in the certificate was not checked")
    except ssl.SSLCertVerificationError as error:
        assert "other.example" in str(error), error


def copy_in():
    with connect() as c:
        item(c)
        lines = io.BytesIO(b"".join(b"%d\n" % n for n in range(10_000)))
        await_only(driver(c).copy_to_table("item", source=lines))
        assert rows(c, "select count(*), sum(id) from item") == [(10_000, 49_995_000)]
        execute(c, "drop table item")


def copy_out():
    with connect() as c:
        out = io.BytesIO()
        query = "select n, name from who, generate_series(1, $1::int) n"
        await_only(driver(c).copy_from_query(query, 10_000, output=out))
        assert out.getvalue() == b"".join(b"%d\tacme\n" % n for n in range(1, 10_001))


def copy_in_aborted():
    class GivenUp(Exception):
        pass

    async def lines():
        yield b"1\n"
        raise GivenUp

    with connect() as c:
        item(c)
        for source, kind in (lines(), GivenUp), (io.BytesIO(b"1\nx\n"), asyncpg.InvalidTextRepresentationError):
            try:
                await_only(driver(c).copy_to_table("item", source=source))
            except kind:
                continue
            raise AssertionError(f"no {kind.__name__}")
        usable(c)
        assert value(c, "select count(*) from item") == 0
        execute(c, "drop table item")


def cancel():
    with connect() as c, connect() as other:
        begun = time.monotonic()
        sleep = asyncio.get_running_loop().create_task(driver(c).execute("select pg_sleep(10)"))
        while not rows(other, tap.ASLEEP):
            await_only(asyncio.sleep(0.01))  # between two looks
        sleep.cancel()  # sends the cancel request, and hides the 57014
        try:
            await_only(sleep)
            raise AssertionError("not cancelled")
        except asyncio.CancelledError:
            pass
        usable(c)
        execute(c, "set statement_timeout = 300")
        fails("57014", lambda: execute(c, "select pg_sleep(10)"))
        assert time.monotonic() - begun < 5
        usable(c)


def notify():
    got = asyncio.Queue()

    def hear(_c, _pid, channel, payload):
        got.put_nowait((channel, payload))

    with connect() as a, connect(autocommit=False) as b:
        await_only(driver(a).add_listener("news", hear))
        execute(b, "select pg_notify('news', 'hello')")
        await_only(asyncio.sleep(0.2))
        assert got.empty(), "before the commit"
        b.commit()
        assert await_only(asyncio.wait_for(got.get(), 5)) == ("news", "hello")
        await_only(driver(a).remove_listener("news", hear))


def together(acts):
    greenlets = [greenlet_spawn(act) for act in acts]
    for error in await_only(asyncio.gather(*greenlets, return_exceptions=True)):
        if error:
            raise error


def awaiting(check):
    async def run():
        await greenlet_spawn(check)

    return run


tap.resolve_names()
sqlalchemy_checks.engine, sqlalchemy_checks.together = engine, together
checks = vars(sqlalchemy_checks) | globals()
tap.run({name: awaiting(checks[name]) for name in (check.replace("-", "_") for check in tap.CHECKS)})
