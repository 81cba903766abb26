#!/usr/bin/env python3
"""How long do clients stand still when PostgreSQL restarts?

Clients of as many tenants as there are clients send `select 1` every 5 ms, half of them directly and half through
Tenantry, at the same time; one whose connection is lost connects again. PostgreSQL is restarted, each time after a longer
pause. Prints how long the half stood still whose last client was served again: the longest time between two answers.

    benches/restart/run.py [--clients 40] [--rounds 5]
"""

import os, socket, statistics, struct, sys, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from rig import Rig, arguments

PAUSES = (0.1, 0.3, 0.5, 1, 2)
QUERY = b"Q" + struct.pack("!i", 13) + b"select 1\0"


def until_ready(sock):
    seen = b""
    while not seen.endswith(b"Z\0\0\0\5I"):
        part = sock.recv(65536)
        if not part or b"SFATAL" in part:
            raise OSError("closed")
        seen += part


def connect(port, user):
    sock = socket.create_connection(("127.0.0.1", port), 30)
    body = struct.pack("!i", 196608) + b"".join(part.encode() + b"\0" for part in ("user", user, "database", "acme", ""))
    sock.sendall(struct.pack("!i", 4 + len(body)) + body)
    until_ready(sock)
    return sock


class Client(threading.Thread):
    """Notes the longest time between two answers since it was last asked."""

    def __init__(self, port, user, stop):
        super().__init__(daemon=True)
        self.port, self.user, self.over, self.gap, self.last = port, user, stop, 0.0, time.monotonic()

    def run(self):
        sock = None
        while not self.over.wait(0.005):
            try:
                sock = sock or connect(self.port, self.user)
                sock.sendall(QUERY)
                until_ready(sock)
            except OSError:
                sock = None
                continue
            now = time.monotonic()
            self.gap, self.last = max(self.gap, now - self.last), now


def restart(rig, halves, pause):
    for client in (client for half in halves for client in half):
        client.gap = 0.0
    rig.restart(pause)
    back = time.monotonic()
    while any(client.last < back for half in halves for client in half):
        time.sleep(0.05)
    return [max(client.gap for client in half) for half in halves]


def main():
    args = arguments(__doc__, clients=40, rounds=5)
    rig, stop = Rig(), threading.Event()
    try:
        rig.postgres(["acme"], scale=0)
        _, port = rig.tenantry("", 'database = "acme"\nmax_server_connections = 20',
                               '[tenancy]\ntenant_from = ["user:."]\nunknown = "template"\n[tenants."*"]\n')
        halves = [[Client(rig.pg_port, "bench", stop) for _ in range(args.clients // 2)],
                  [Client(port, f"bench.t{n}", stop) for n in range(args.clients // 2)]]
        for client in (client for half in halves for client in half):
            client.start()
        print(f"{'pause, s':>9}{'directly, s':>13}{'Tenantry, s':>13}{'difference, s':>15}")
        for pause in PAUSES:
            rows = [restart(rig, halves, pause) for _ in range(args.rounds)]
            direct, pooled = (statistics.median(row[at] for row in rows) for at in range(2))
            print(f"{pause:>9}{direct:>13.2f}{pooled:>13.2f}{pooled - direct:>15.2f}")
        stop.set()
    finally:
        rig.close()


main()
