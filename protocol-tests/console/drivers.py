"""Python's drivers on the console, with what they say of themselves."""

import asyncio
import sys

import asyncpg
import psycopg
import psycopg2
import sqlalchemy

url = sys.argv[1]

connection = psycopg2.connect(url)
cursor = connection.cursor()
cursor.execute("SHOW VERSION")
print("psycopg2", cursor.fetchone()[0])
connection.commit()
connection.close()

with psycopg.connect(url) as connection:
    print("psycopg", connection.execute("SHOW VERSION", prepare=True).fetchone()[0])


async def pool():
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as connections:
        for _ in range(2):  # given back in between: it resets what it has not set
            async with connections.acquire() as connection:
                name = (await connection.fetch("SHOW VERSION"))[0]["version"]
    print("asyncpg", name)


asyncio.run(pool())

engine = sqlalchemy.create_engine(url.replace("postgres://", "postgresql+psycopg2://"), pool_pre_ping=True)
for _ in range(2):
    with engine.connect() as connection:
        name = connection.execute(sqlalchemy.text("SHOW VERSION")).scalar()
print("sqlalchemy", name)
