"""psycopg 3: a transaction, a prepared statement, a COPY and an error."""

import sys

import psycopg

with psycopg.connect(sys.argv[1], autocommit=True) as c:
    assert c.execute("select name from who").fetchall() == [("acme",)]
    with c.transaction(force_rollback=True):
        c.execute("insert into who values (%s)", ("x",))
        assert c.execute("select count(*) from who").fetchone() == (2,)
    for _ in range(3):
        assert c.execute("select name from who where name = %s", ("acme",), prepare=True).fetchall() == [("acme",)]
    with c.transaction(force_rollback=True):
        with c.cursor().copy("copy who from stdin") as copy:
            copy.write_row(("a",))
        assert c.execute("select count(*) from who").fetchone() == (2,)
    with c.cursor().copy("copy who to stdout") as copy:
        assert b"".join(copy) == b"acme\n"
    try:
        c.execute("select 1/0")
        raise SystemExit("no error")
    except psycopg.errors.DivisionByZero:
        pass
    with c.pipeline():
        cursors = [c.execute("select %s::int", (n,)) for n in range(5)]
    assert [cursor.fetchone()[0] for cursor in cursors] == list(range(5))
print("ok")
