#!/usr/bin/env python3
"""How many schemas does a backend read, and what does it keep of them?

A backend keeps memory for every table it has ever touched. Replays transactions of many tenants, chosen by
Zipf's law, over few servers: each tenant has a connection and a schema with tables; between one and as many
transactions as there are servers are under way, more and less in turn. Prints, through Tenantry and through PgBouncer (which takes the server used last), how
many schemas a backend has touched, how often a transaction was the first of its tenant on its backend, and the
backends' real memory (`smaps_rollup`, what is private to them).

    benches/affinity/run.py [--tenants 1000] [--servers 50] [--tables 20] [--transactions 40000]

Needs 1,000 schemas of 20 tables to be made first: about a minute.
"""

import argparse, os, random, re, selectors, socket, struct, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from rig import Rig


def message(tag, body):
    return tag + struct.pack("!i", len(body) + 4) + body


class Client:
    """A tenant's connection."""

    def __init__(self, port, user, tenant, tables):
        self.socket = socket.create_connection(("127.0.0.1", port))
        body = struct.pack("!i", 196608) + f"user\0{user}\0database\0acme\0\0".encode()
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        # Every table's definition is read, and none has rows.
        reads = "".join(f" + (select count(*) from {tenant}.table_{n})" for n in range(tables))
        self.query = message(b"Q", f"select pg_backend_pid()::text || ' ' || (0{reads})\0".encode())
        self.tenant, self.answer = tenant, b""
        self.receive()

    def send(self):
        self.answer = b""
        self.socket.sendall(self.query)

    def receive(self):
        while not self.step():
            pass

    def step(self):
        """Reads; `True` when the answer is whole."""
        part = self.socket.recv(65536)
        if not part:
            sys.exit(f"the connection ended: {self.answer!r}")
        self.answer += part
        return self.answer.endswith(b"Z\0\0\0\x05I")

    def backend(self):
        found = re.search(rb"D\0\0..\0\x01\0\0..(\d+) 0", self.answer, re.S)
        if not found:
            sys.exit(f"not a row: {self.answer!r}")
        return int(found.group(1))


def replay(port, user, args):
    """Schemas touched by each backend, and how many transactions were the first of their tenant there."""
    clients = [Client(port, user(f"t{n}"), f"t{n}", args.tables) for n in range(args.tenants)]
    dice = random.Random(7)
    weights = [1 / (rank + 1) for rank in range(args.tenants)]
    idle, touched, first = set(range(args.tenants)), {}, 0
    selector = selectors.DefaultSelector()
    for number, client in enumerate(clients):
        selector.register(client.socket, selectors.EVENT_READ, number)
    sent = done = 0
    upcoming = iter(dice.choices(range(args.tenants), weights, k=args.transactions))
    waiting = []
    loads = [dice.randint(1, args.servers) for _ in range(args.transactions // 50 + 1)]

    def start():
        nonlocal sent
        busy = loads[sent // 50]
        while sent - done < busy and sent < args.transactions:
            number = waiting.pop() if waiting and waiting[-1] in idle else next(upcoming, None)
            if number is None:
                return
            if number in idle:
                idle.remove(number)
                clients[number].send()
                sent += 1
            else:
                waiting.append(number)
                if len(waiting) > 1000:
                    waiting.clear()

    start()
    while sent > done:
        for key, _ in selector.select():
            client = clients[key.data]
            if client.step():
                schemas = touched.setdefault(client.backend(), set())
                first += client.tenant not in schemas
                schemas.add(client.tenant)
                idle.add(key.data)
                done += 1
        start()
    kept = {pid: private_kb(pid) for pid in touched}
    for client in clients:
        client.socket.close()
    return {pid: len(schemas) for pid, schemas in touched.items()}, first / done, kept


def private_kb(pid):
    try:
        text = open(f"/proc/{pid}/smaps_rollup").read()
    except FileNotFoundError:
        return 0
    return sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+)", text, re.M))


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tenants", 1000), ("servers", 50), ("tables", 20), ("transactions", 40000)):
        args.add_argument(f"--{name}", type=int, default=default)
    args = args.parse_args()
    rig = Rig()
    try:
        rig.postgres(["acme"], scale=0, settings=["max_locks_per_transaction=256"])
        for block in range(0, args.tenants, 20):
            names = range(block, min(block + 20, args.tenants))
            rig.sql("acme", "".join(f"create schema t{n};" + "".join(
                f"create table t{n}.table_{m} (id int primary key, a text, b text, c int, d timestamptz);"
                for m in range(args.tables)) for n in names))
        _, tenantry = rig.tenantry("", f"database = \"acme\"\nmax_server_connections = {args.servers}\nmax_tenants_per_server = 1000",
                                   "[tenancy]\ntenant_from = [\"user:.\"]\nunknown = \"template\"\nschema = \"{tenant}\"\n[tenants.\"*\"]")
        _, pgbouncer = rig.pgbouncer(["acme"], f"default_pool_size = {args.servers}\nmax_client_conn = {args.tenants + 10}")
        print(f"{'':<12}{'backends':>9}{'schemas a backend':>19}{'first touches':>15}{'memory, MB':>12}")
        for name, port, user in (("tenantry", tenantry, lambda t: f"bench.{t}"), ("pgbouncer", pgbouncer, lambda _: "bench")):
            touched, first, kept = replay(port, user, args)
            print(f"{name:<12}{len(touched):>9}{sum(touched.values()) / len(touched):>19.1f}{first:>15.1%}"
                  f"{sum(kept.values()) / 1024:>12.0f}", flush=True)
    finally:
        rig.close()


main()
