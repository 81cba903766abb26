#!/usr/bin/env python3
"""What do tenants cost that are only known?

Two Tenantrys, one with 100 tenants listed in its configuration and one with 50,000, serve the same 100 active
ones, each with its own session state, over 10 servers. Prints memory at rest and with 100 clients, and, a
transaction, CPU time, in turns. The same for logging in: pgbench connects anew for every transaction.

    benches/tenants/run.py [--known 50000] [--seconds 3] [--rounds 3]
"""

import os, re, statistics, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from rig import Rig, arguments, cpu_seconds, processed

ACTIVE = 100


def pss_kb(pid):
    return int(re.search(r"Pss:\s+(\d+)", open(f"/proc/{pid}/smaps_rollup").read()).group(1))


def tenantry(rig, known):
    tenants = "".join(f"[tenants.t{n}]\n" for n in range(known))
    return rig.tenantry("", "database = \"acme\"\nmax_server_connections = 10",
                        f"[tenancy]\ntenant_from = [\"user:.\"]\nsettings = {{ \"app.tenant\" = \"{{tenant}}\" }}\n{tenants}")


def run(rig, process, port, seconds, *options):
    """A pgbench for each active tenant: the pooler's CPU time a transaction, and its memory meanwhile."""
    before = cpu_seconds(process.pid)
    benches = rig.clients(port, ACTIVE, seconds, "select 1;\n", *options)
    time.sleep(seconds / 2)
    with_clients = pss_kb(process.pid)
    count = processed(benches)
    return (cpu_seconds(process.pid) - before) * 1e6 / count, with_clients


def main():
    args = arguments(__doc__, known=50000, seconds=3, rounds=3)
    rig = Rig()
    try:
        rig.postgres(["acme"], scale=0, settings=["max_connections=60"])
        both = {known: tenantry(rig, known) for known in (ACTIVE, args.known)}
        rest = {known: pss_kb(process.pid) for known, (process, _) in both.items()}
        rows = {known: [] for known in both}
        for _ in range(args.rounds):
            for known, (process, port) in both.items():
                a_transaction, clients = run(rig, process, port, args.seconds)
                a_login, _ = run(rig, process, port, args.seconds, "-C")
                rows[known].append((a_transaction, a_login, clients))
        print(f"{'known tenants':>14}{'at rest, MB':>13}{'100 clients, MB':>17}{'CPU, us a transaction':>28}{'a login':>10}")
        medians = {}
        for known, values in rows.items():
            medians[known] = m = [statistics.median(value[at] for value in values) for at in range(3)]
            print(f"{known:>14}{rest[known] / 1024:>13.1f}{m[2] / 1024:>17.1f}{m[0]:>28.1f}{m[1]:>10.1f}")
        few, many = medians.values()
        print(f"{'ratio':>14}{'':>30}{many[0] / few[0]:>28.2f}{many[1] / few[1]:>10.2f}")
    finally:
        rig.close()


main()
