#!/usr/bin/env python3
"""A noisy neighbour: how long does one quiet client wait beside fifty loud ones?

Five servers. Tenant a has 50 clients that each run statements of 20 ms, tenant b one client that runs
`select 1`. Prints b's p50 and p99 latency alone and beside a, and a's statements a second, through
Tenantry (equal weights; b with a guaranteed server; each in a database of its own) and through PgBouncer
(one database; two databases under one limit). The scenarios take turns, round by round.

    benches/noisy/run.py [--seconds 4] [--rounds 3]

Exits with an error if b's p99 beside a is longer than one of a's statements through Tenantry.
"""

import argparse, glob, os, statistics, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from rig import Rig

STATEMENT_MS = 20
SCRIPTS = {"a": f"select pg_sleep({STATEMENT_MS / 1000});\n", "b": "select 1;\n"}


def tenantry(rig, tenants):
    return rig.tenantry("", "max_server_connections = 5\ndatabase = \"acme\"",
                        f"[tenancy]\ntenant_from = [\"user:.\"]\n{tenants}")


def scenarios(rig):
    """Name, port, and how each tenant connects: user and database."""
    shared = {"a": ("bench.a", "acme"), "b": ("bench.b", "acme")}
    _, equal = tenantry(rig, "[tenants.a]\n[tenants.b]")
    _, guaranteed = tenantry(rig, "[tenants.a]\n[tenants.b]\nguaranteed_server_connections = 1")
    _, apart = tenantry(rig, "[tenants.a]\n[tenants.b]\ndatabase = \"umbra\"")
    _, bouncer = rig.pgbouncer(["acme"], "default_pool_size = 5")
    _, bouncers = rig.pgbouncer(["acme", "umbra"], "default_pool_size = 5\nmax_user_connections = 5")
    plain = {"a": ("bench", "acme"), "b": ("bench", "acme")}
    return [
        ("tenantry, equal weights", equal, shared),
        ("tenantry, b guaranteed 1", guaranteed, shared),
        ("tenantry, two databases", apart, shared),
        ("pgbouncer", bouncer, plain),
        ("pgbouncer, two databases", bouncers, {"a": ("bench", "acme"), "b": ("bench", "umbra")}),
    ]


def start(rig, port, who, tenant, clients, seconds, name):
    """pgbench, logging the latency of every transaction."""
    user, database = who[tenant]
    script, log = os.path.join(rig.dir, f"{tenant}.sql"), os.path.join(rig.dir, f"log-{name}")
    with open(script, "w") as f:
        f.write(SCRIPTS[tenant])
    command = ["pgbench", "-n", "-f", script, "-c", str(clients), "-T", str(seconds), "-l", "--log-prefix", log,
               "-h", "127.0.0.1", "-p", str(port), "-U", user, database]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            text=True, start_new_session=True), log


def latencies(run):
    """In milliseconds, sorted. The first tenth is left out: everybody logs in."""
    process, log = run
    error = process.communicate()[1]
    if process.returncode:
        sys.exit(f"pgbench failed:\n{error}")
    values = []
    for path in glob.glob(log + ".*"):
        with open(path) as f:
            values += [int(line.split()[2]) / 1000 for line in f]
        os.remove(path)
    return sorted(values[len(values) // 10:])


def percentile(values, part):
    return values[min(len(values) - 1, int(len(values) * part))] if values else float("inf")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--seconds", type=int, default=4)
    args.add_argument("--rounds", type=int, default=3)
    args = args.parse_args()
    rig, failed = Rig(), False
    try:
        rig.postgres(["acme", "umbra"], scale=0)
        rows, contestants = {}, scenarios(rig)
        for _ in range(args.rounds):
            for name, port, who in contestants:
                alone = latencies(start(rig, port, who, "b", 1, args.seconds, "alone"))
                loud = start(rig, port, who, "a", 50, args.seconds + 1, "loud")
                beside = latencies(start(rig, port, who, "b", 1, args.seconds, "beside"))
                a = latencies(loud)
                rows.setdefault(name, []).append((percentile(alone, 0.5), percentile(alone, 0.99),
                                                  percentile(beside, 0.5), percentile(beside, 0.99),
                                                  len(a) / (args.seconds + 1) / 0.9))
        print(f"{'':<28}{'b alone, ms':>18}{'b beside a, ms':>20}{'a':>12}")
        print(f"{'':<28}{'p50':>9}{'p99':>9}{'p50':>10}{'p99':>10}{'a second':>12}")
        for name, values in rows.items():
            m = [statistics.median(value[at] for value in values) for at in range(5)]
            print(f"{name:<28}{m[0]:9.2f}{m[1]:9.2f}{m[2]:10.2f}{m[3]:10.2f}{m[4]:12.0f}")
            failed |= name.startswith("tenantry") and m[3] > STATEMENT_MS * 1.1
    finally:
        rig.close()
    if failed:
        sys.exit("b's p99 beside a is longer than one of a's statements")


main()
