"""SQLAlchemy over psycopg 3. What it has no words of its own for (COPY, cancel, LISTEN) goes to the driver's connection."""

import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import psycopg
import sqlalchemy
import sqlalchemy_checks
import tap
from sqlalchemy_checks import connect, execute, fails, item, rows, usable, value


def engine(tenant, way, **options):
    return sqlalchemy.create_engine(tap.url(tenant, way, "postgresql+psycopg"), **options)


def driver(c):
    return c.connection.driver_connection


def verified(host, way="user"):
    parameters = {"host": host, "hostaddr": tap.HOST, "sslmode": "verify-full", "sslrootcert": tap.CA}
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
    except sqlalchemy.exc.OperationalError as error:
        assert "does not match host name" in str(error), error


def copy_in():
    with connect() as c:
        item(c)
        with driver(c).cursor().copy("copy item from stdin") as copy:
            for n in range(10_000):
                copy.write_row((n,))
        assert rows(c, "select count(*), sum(id) from item") == [(10_000, 49_995_000)]
        execute(c, "drop table item")


def copy_out():
    with connect() as c:
        with driver(c).cursor().copy("copy (select n, name from who, generate_series(1, 10000) n) to stdout") as copy:
            assert list(copy.rows()) == [(str(n), "acme") for n in range(1, 10_001)]


def copy_in_aborted():
    class GivenUp(Exception):
        pass

    with connect() as c:
        item(c)
        try:
            with driver(c).cursor().copy("copy item from stdin") as copy:
                copy.write_row((1,))
                raise GivenUp
        except GivenUp:
            pass
        try:
            with driver(c).cursor().copy("copy item from stdin") as copy:
                copy.write("1\nx\n")
            raise AssertionError("no error")
        except psycopg.Error as error:
            assert error.sqlstate == "22P02", error
        usable(c)
        assert value(c, "select count(*) from item") == 0
        execute(c, "drop table item")


def cancel():
    with connect() as c, connect() as other:

        def once_asleep():
            tap.poll(lambda: rows(other, tap.ASLEEP))
            driver(c).cancel_safe()

        threading.Thread(target=once_asleep).start()
        begun = time.monotonic()
        fails("57014", lambda: execute(c, "select pg_sleep(10)"))
        assert time.monotonic() - begun < 5
        usable(c)


def notify():
    with connect() as a, connect(autocommit=False) as b:
        execute(a, "listen news")
        execute(b, "select pg_notify('news', 'hello')")
        assert not list(driver(a).notifies(timeout=0.2)), "before the commit"
        b.commit()
        (got,) = driver(a).notifies(timeout=5, stop_after=1)
        assert (got.channel, got.payload) == ("news", "hello")


sqlalchemy_checks.engine, sqlalchemy_checks.together = engine, tap.together
tap.run(vars(sqlalchemy_checks) | globals())
