"""asyncpg: a transaction, a prepared statement, a COPY and an error."""

import asyncio
import io
import sys

import asyncpg


async def main():
    c = await asyncpg.connect(sys.argv[1])
    assert await c.fetchval("select name from who") == "acme"
    transaction = c.transaction()
    await transaction.start()
    await c.execute("insert into who values ($1)", "x")
    assert await c.fetchval("select count(*) from who") == 2
    await transaction.rollback()
    statement = await c.prepare("select name from who where name = $1")
    for _ in range(3):
        assert await statement.fetchval("acme") == "acme"
    transaction = c.transaction()
    await transaction.start()
    await c.copy_to_table("who", source=io.BytesIO(b"a\nb\n"))
    assert await c.fetchval("select count(*) from who") == 3
    await transaction.rollback()
    try:
        await c.execute("select 1/0")
        raise SystemExit("no error")
    except asyncpg.DivisionByZeroError:
        pass
    await c.close()
    async with asyncpg.create_pool(sys.argv[1], min_size=1, max_size=1) as pool:
        for _ in range(3):  # its reset at release is a RESET ALL
            assert await pool.fetchval("select name from who") == "acme"


asyncio.run(main())
print("ok")
