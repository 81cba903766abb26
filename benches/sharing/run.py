#!/usr/bin/env python3
"""What does server_sharing = "tenant" cost?

Two Tenantrys over 10 servers, one whose servers serve all tenants one after another and one whose servers serve one tenant
each. So many tenants, with a client each, send a transaction, rest for 10 ms, and so on. Prints, for both in turns:
transactions a second, logins at PostgreSQL a thousand transactions, and the ratio of the rates.

    benches/sharing/run.py [--seconds 5] [--rounds 3]
"""

import os, statistics, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from rig import Rig, arguments, processed

TENANTS = (5, 10, 20, 80)


def sessions(rig):
    """How many have begun; PostgreSQL counts them when they end, or are looked at."""
    time.sleep(1.2)  # its statistics may be a second old
    sql = "select sum(sessions) from pg_stat_database where datname = 'acme'"
    said = subprocess.run(["psql", "-w", "-qAt", *rig.target(rig.pg_port), "-d", "postgres", "-c", sql], check=True,
                          capture_output=True, text=True)
    return int(said.stdout)


def run(rig, port, tenants, seconds):
    before = sessions(rig)
    count = processed(rig.clients(port, tenants, seconds, "select 1;\n\\sleep 10 ms\n"))
    return count / seconds, 1000 * (sessions(rig) - before) / count


def main():
    args = arguments(__doc__, seconds=5, rounds=3)
    rig = Rig()
    try:
        rig.postgres(["acme"], scale=0, settings=["max_connections=60"])
        listed = "".join(f"[tenants.t{n}]\n" for n in range(max(TENANTS)))
        both = {sharing: rig.tenantry("", "database = \"acme\"\nmax_server_connections = 10",
                                      f"[tenancy]\ntenant_from = [\"user:.\"]\nserver_sharing = \"{sharing}\"\n{listed}")[1]
                for sharing in ("all", "tenant")}
        print(f"{'tenants':>8}{'all: a second':>15}{'logins/1000':>13}{'tenant: a second':>18}{'logins/1000':>13}{'ratio':>8}")
        for tenants in TENANTS:
            rows = {sharing: [] for sharing in both}
            for _ in range(args.rounds):
                for sharing, port in both.items():
                    rows[sharing].append(run(rig, port, tenants, args.seconds))
            m = [statistics.median(row[at] for row in values) for values in rows.values() for at in range(2)]
            print(f"{tenants:>8}{m[0]:>15.0f}{m[1]:>13.2f}{m[2]:>18.0f}{m[3]:>13.2f}{m[2] / m[0]:>8.2f}")
    finally:
        rig.close()


main()
