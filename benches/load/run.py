#!/usr/bin/env python3
"""CPU per transaction of Tenantry and PgBouncer, side by side, and memory of idle clients.

Starts a throw-away PostgreSQL, both poolers in transaction mode with one worker, and drives them in
turn with `pgbench -S`. Prints medians a transaction: CPU time (`cpu_us`), and instructions in user
mode and in the kernel by `perf stat`; where the machine has no counters, those in user mode by
callgrind. Only ratios mean anything: both share the machine with pgbench and PostgreSQL.

    benches/load/run.py [--protocol simple] [--clients 8 32] [--seconds 4] [--rounds 5] [--idle 2000]

Needs (Debian): postgresql postgresql-contrib pgbouncer linux-perf valgrind, and a release build.
"""

import argparse, os, re, signal, socket, statistics, struct, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from rig import Rig, cpu_seconds


def pgbouncer(rig, wrapper=()):
    return rig.pgbouncer(["acme"], "default_pool_size = 20\nmax_client_conn = 5000", wrapper)


def tenantry(rig, wrapper=()):
    tenants = """[tenancy]
tenant_from = ["database"]
[tenants.acme]
database = "acme"
max_client_connections = 5000"""
    return rig.tenantry("max_client_conn = 5000", "max_server_connections = 20", tenants, wrapper)


def pgbench(rig, port, clients, protocol, *limit, wrapper=()):
    """Runs pgbench to its limit: its output and how many transactions it made."""
    command = ["pgbench", "-S", "-n", "-M", protocol, "-c", str(clients), "-j", "1", *limit, *rig.target(port), "acme"]
    run = subprocess.run([*wrapper, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                         start_new_session=True)
    count = re.search(r"actually processed: (\d+)", run.stdout)
    if not count:
        sys.exit(f"pgbench failed:\n{run.stdout}\n{run.stderr}")
    return run.stderr, int(count.group(1))


def measure(rig, pid, port, clients, seconds, protocol):
    """One run, logins included: they are a thousandth of it, and the same for both."""
    perf = ["perf", "stat", "-x,", "-e", "instructions:u,instructions:k", "-p", str(pid), "--"]
    before = cpu_seconds(pid)
    stderr, count = pgbench(rig, port, clients, protocol, "-T", str(seconds), wrapper=perf)
    result = {"cpu_us": (cpu_seconds(pid) - before) * 1e6 / count}
    for part in ("user", "kernel"):
        counted = re.search(rf"^(\d+),.*instructions:{part[0]}", stderr, re.M)
        if counted:
            result[part] = int(counted.group(1)) / count
    return result


def counted_by_valgrind(rig, start, clients, protocol):
    """User instructions per transaction without hardware counters: two runs under callgrind."""
    totals = []
    for transactions in (2000, 10000):
        process, port = start(rig, ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"])
        _, count = pgbench(rig, port, clients, protocol, "-t", str(transactions // clients))
        process.send_signal(signal.SIGINT)
        process.wait(60)
        log = open(os.path.join(rig.dir, "valgrind.log")).read()
        totals.append((int(re.findall(r"Collected : (\d+)", log)[-1]), count))
    (few, n), (many, m) = totals
    return (many - few) / (m - n)


def startup_packet():
    body = struct.pack("!i", 196608) + b"user\0bench\0database\0acme\0\0"
    return struct.pack("!i", len(body) + 4) + body


def rss_kb(pid):
    return int(re.search(r"Pss:\s+(\d+)", open(f"/proc/{pid}/smaps_rollup").read()).group(1))


def idle(pid, port, count):
    """kB per idle client: the growth between `count` / 10 and `count` clients, all logged in."""
    sockets = []

    def connect(n):
        for _ in range(n):
            s = socket.create_connection(("127.0.0.1", port))
            s.sendall(startup_packet())
            answer = b""
            while not answer.endswith(b"Z\0\0\0\x05I"):
                answer += s.recv(4096)
            sockets.append(s)
        time.sleep(0.5)
        return rss_kb(pid)

    first = count // 10
    low = connect(first)
    high = connect(count - first)
    for s in sockets:
        s.close()
    return (high - low) / (count - first)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--protocol", default="simple")
    args.add_argument("--clients", type=int, nargs="+", default=[8, 32])
    args.add_argument("--seconds", type=int, default=4)
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--idle", type=int, default=2000)
    args = args.parse_args()
    rig = Rig()
    try:
        rig.postgres()
        poolers = {"pgbouncer": pgbouncer(rig), "tenantry": tenantry(rig)}
        for clients in args.clients:
            rows = {name: [] for name in poolers}
            for _ in range(args.rounds):
                for name, (process, port) in poolers.items():
                    rows[name].append(measure(rig, process.pid, port, clients, args.seconds, args.protocol))
            medians = {name: {key: statistics.median(row[key] for row in list_) for key in list_[0]}
                       for name, list_ in rows.items()}
            if "user" not in medians["tenantry"]:
                for name, start in (("pgbouncer", pgbouncer), ("tenantry", tenantry)):
                    medians[name]["user"] = counted_by_valgrind(rig, start, clients, args.protocol)
            for name, values in medians.items():
                print(f"{clients:>3} clients  {name:<10}", *(f"{k} {v:.1f}" for k, v in sorted(values.items())), flush=True)
            ratios = (f"{k} {medians['tenantry'][k] / medians['pgbouncer'][k]:.2f}" for k in sorted(medians["tenantry"]))
            print(f"{clients:>3} clients  ratio      ", *ratios, flush=True)
        for name, (process, port) in poolers.items():
            print(f"idle         {name:<10} {idle(process.pid, port, args.idle):6.2f} kB per client at {args.idle}", flush=True)
    finally:
        rig.close()


main()
