#!/usr/bin/env python3
"""One tenant's faults: how much of its throughput does another tenant keep beside them?

Five servers. Four clients of the tenant umbra run `select 1` alone, and then beside four clients of acme that do one
kind of harm as fast as they are answered: logins that are refused, servers that cannot be used again, sessions that are
left in the middle of something (`faults.py`). Each kind is measured in turn, round by round; a ratio is of two runs that
follow each other. Prints for each kind umbra's transactions a second alone and beside it, the ratio, and how often the
harm was done.

    benches/neighbours/run.py [--seconds 3] [--rounds 3] [--kind TEXT]
"""

import argparse, os, re, statistics, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
from faults import FAULTS
from rig import Rig, processed

TENANCY = """[tenancy]
tenant_from = ["user:."]
[tenants.acme]
[tenants.umbra]
[tenants.bad]
role = "nobody_has_it"
[tenants.worse]
schema = "nobody_has_it"
"""


def work(rig, port, seconds):
    script = os.path.join(rig.dir, "work.sql")
    with open(script, "w") as f:
        f.write("select 1;\n")
    command = ["pgbench", "-n", "-f", script, "-c", "4", "-T", str(seconds), "-h", "127.0.0.1", "-p", str(port),
               "-U", "bench.umbra", "acme"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)


def fault(port, name, seconds):
    command = [sys.executable, os.path.join(HERE, "faults.py"), str(port), name, str(seconds)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--seconds", type=int, default=3)
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--kind", default="", help="only kinds whose name holds this")
    args = args.parse_args()
    kinds = [name for name in FAULTS if args.kind in name]
    rig, rows = Rig(), {}
    try:
        rig.postgres(scale=0)
        rig.sql("acme", "create table t (a int)")
        _, port = rig.tenantry("", "max_server_connections = 5\ndatabase = \"acme\"", TENANCY)
        processed([work(rig, port, 1)])
        for _ in range(args.rounds):
            for name in kinds:
                alone = processed([work(rig, port, args.seconds)]) / args.seconds
                harm = fault(port, name, args.seconds)
                beside = processed([work(rig, port, args.seconds)]) / args.seconds
                often = int(harm.communicate()[0]) / args.seconds
                rows.setdefault(name, []).append((alone, beside, beside / alone, often))
    finally:
        rig.close()
    print(f"{'umbra, transactions a second':<32}{'alone':>9}{'beside':>9}{'ratio':>7}{'harm a second':>15}")
    for name, values in rows.items():
        m = [statistics.median(value[at] for value in values) for at in range(4)]
        print(f"{name:<32}{m[0]:9.0f}{m[1]:9.0f}{m[2]:7.2f}{m[3]:15.0f}")


main()
