"""Six clients of other tenants that keep the servers rotating: `rotate.py PORT`, until SIGTERM.

Each runs short transactions and asks whether it still is who it is; what it holds and how long is random. At the end one line
says how many transactions there were, on how many servers, and how many answers were not the client's own.
"""

import asyncio
import random
import signal
import sys

import asyncpg

WHO = "select current_setting('application_name'), current_schema(), (select name from who), pg_backend_pid()"


async def turn(connection, name, tenant, seen):
    async with connection.transaction():
        row = await connection.fetchrow(WHO)
        await asyncio.sleep(random.random() * 0.004)  # the work of an application
        again = await connection.fetchrow(WHO)
    own = (name, tenant, tenant)
    seen["wrong"] += tuple(row)[:3] != own or tuple(again)[:3] != own or row[3] != again[3]
    seen["turns"] += 1
    seen["servers"].add(row[3])
    await asyncio.sleep(random.random() * 0.004)


async def client(port, number, seen, stop):
    name, tenant = f"client {number}", f"other{number % 3}"
    where = {"host": "127.0.0.1", "port": port, "user": f"app.{tenant}", "password": "secret", "database": tenant}
    connection = await asyncpg.connect(**where, server_settings={"application_name": name})
    while not stop.is_set():
        await turn(connection, name, tenant, seen)
    await connection.close()


async def main():
    stop, seen = asyncio.Event(), {"turns": 0, "wrong": 0, "servers": set()}
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await asyncio.gather(*(client(int(sys.argv[1]), number, seen, stop) for number in range(6)))
    print(seen["turns"], len(seen["servers"]), seen["wrong"])


asyncio.run(main())
