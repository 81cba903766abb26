#!/usr/bin/env python3
"""Two hundred databases under one budget: is everybody served, in turn, and does the budget hold?

Every tenant has a database and a login role of its own and five clients that ask all the time; 1,000 clients
share 40 server connections. Prints how many statements each tenant got, the longest wait, logins a second and
how many servers PostgreSQL saw at once.

    benches/databases/run.py [--databases 200] [--clients 5] [--servers 40] [--seconds 30]

Exits with an error if a tenant got nothing, an answer came from another database or role, a client saw an
error, or PostgreSQL saw more servers than the budget has. (A backend that was told to go is not counted: it
has no client any more.)
"""

import argparse, asyncio, os, struct, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from rig import Rig

STATEMENT_MS = 20


class Client:
    """As much of the protocol as a question and one row need."""

    @classmethod
    async def login(cls, port, user, database):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        body = b"".join(part.encode() + b"\0" for part in ("user", user, "database", database)) + b"\0"
        self.writer.write(struct.pack("!ii", len(body) + 8, 196608) + body)
        await self.until_ready()
        return self

    async def until_ready(self):
        """The first value of the first row."""
        value = None
        while True:
            tag, size = struct.unpack("!ci", await self.reader.readexactly(5))
            body = await self.reader.readexactly(size - 4)
            if tag == b"E":
                raise RuntimeError(body.replace(b"\0", b" ").decode())
            if tag == b"D" and value is None:
                length = struct.unpack("!i", body[2:6])[0]
                value = body[6:6 + length].decode()
            if tag == b"Z":
                return value

    async def ask(self, sql):
        text = sql.encode() + b"\0"
        self.writer.write(b"Q" + struct.pack("!i", len(text) + 4) + text)
        return await self.until_ready()


async def drive(args, rig, port):
    names = [f"d{number:03}" for number in range(args.databases)]
    served, longest, problems = dict.fromkeys(names, 0), dict.fromkeys(names, 0.0), []
    watch, peak, seen = await Client.login(rig.pg_port, "bench", "postgres"), 0, set()

    # Everybody logs in before anybody is counted.
    begun = time.monotonic()
    logged_in = await asyncio.gather(*(Client.login(port, f"bench.{name}", name)
                                       for name in names for _ in range(args.clients)))
    print(f"{len(logged_in)} clients have logged in within {time.monotonic() - begun:.1f} s", flush=True)
    over = time.monotonic() + args.seconds

    async def client(name, own):
        try:
            sql = f"select current_database() || ' ' || current_user, pg_sleep({STATEMENT_MS / 1000})"
            while time.monotonic() < over:
                begun = time.monotonic()
                answer = await own.ask(sql)
                longest[name] = max(longest[name], time.monotonic() - begun - STATEMENT_MS / 1000)
                served[name] += 1
                if answer != f"{name} {name}":
                    problems.append(f"{name} was answered by {answer}")
        except (OSError, RuntimeError, asyncio.IncompleteReadError) as error:
            problems.append(f"{name}: {error}")

    of = [name for name in names for _ in range(args.clients)]
    clients = [asyncio.create_task(client(name, own)) for name, own in zip(of, logged_in)]
    while not all(task.done() for task in clients):
        # Those that rest, run or log in; not those that are about to end.
        sql = "select coalesce(string_agg(pid::text, ' '), '') from pg_stat_activity where usename like 'd___' and state is not null"
        pids = (await watch.ask(sql)).split()
        peak, seen = max(peak, len(pids)), seen.union(pids)
        await asyncio.sleep(0.02)
    return served, longest, problems, peak, len(seen)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in [("databases", 200), ("clients", 5), ("servers", 40), ("seconds", 30)]:
        args.add_argument(f"--{name}", type=int, default=default)
    args = args.parse_args()
    rig = Rig()
    try:
        rig.postgres([], scale=0)
        names = [f"d{number:03}" for number in range(args.databases)]
        rig.sql("postgres", "; ".join(f"create role {name} login" for name in names))
        for name in names:
            rig.sql("postgres", f"create database {name} owner {name}")
        tenants = "\n".join(f'[tenants.{name}]\ndatabase = "{name}"\nuser = "{name}"' for name in names)
        _, port = rig.tenantry("", f"max_server_connections = {args.servers}",
                               f'[tenancy]\ntenant_from = ["user:."]\n{tenants}')
        served, longest, problems, peak, logins = asyncio.run(drive(args, rig, port))
    finally:
        rig.close()
    counts = sorted(served.values())
    waits = sorted(longest.values())
    print(f"{args.databases} databases, {args.databases * args.clients} clients, {args.servers} servers, {args.seconds} s")
    print(f"statements a tenant   least {counts[0]}, median {counts[len(counts) // 2]}, most {counts[-1]}")
    print(f"longest wait, s       median {waits[len(waits) // 2]:.2f}, most {waits[-1]:.2f}")
    print(f"servers at once       {peak} of {args.servers}; {logins / args.seconds:.0f} logins a second")
    print(f"errors                {len(problems)}")
    for problem in problems[:5]:
        print(f"  {problem}")
    if problems or counts[0] == 0 or peak > args.servers:
        sys.exit("not as promised")


main()
