#!/usr/bin/env python3
"""CPU per transaction of Tenantry and PgBouncer, side by side, and memory of idle clients.

Starts a throw-away PostgreSQL, both poolers in transaction mode with one worker, and drives them in
turn with `pgbench -S`. Prints medians a transaction: CPU time (`cpu_us`), and instructions in user
mode and in the kernel by `perf stat`; where the machine has no counters, those in user mode by
callgrind. Only ratios mean anything: both share the machine with pgbench and PostgreSQL.

    benches/load/run.py [--protocol simple] [--clients 8 32] [--seconds 4] [--rounds 5] [--idle 2000]

Needs (Debian): postgresql postgresql-contrib pgbouncer linux-perf valgrind, and a release build.
"""

import argparse, glob, json, os, pwd, re, shutil, signal, socket, statistics, struct, subprocess, sys
import tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nobody listens on port {port}")


class Rig:
    """PostgreSQL and both poolers; all of it is gone at the end."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="tenantry-bench-")
        os.chmod(self.dir, 0o755)
        self.user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self.processes = []
        bins = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))
        self.bin = os.environ.get("TENANTRY_PG_BINDIR") or (bins and bins[-1])
        if not self.bin:
            sys.exit("no PostgreSQL found: apt-get install postgresql, or set TENANTRY_PG_BINDIR")

    def spawn(self, command, as_user=None):
        log = open(os.path.join(self.dir, os.path.basename(command[0]) + ".log"), "ab")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True, user=as_user)
        self.processes.append(process)
        return process

    def postgres(self):
        data, self.pg_port = os.path.join(self.dir, "data"), free_port()
        os.mkdir(data, 0o700)
        owner = pwd.getpwnam(self.user)
        os.chown(data, owner.pw_uid, owner.pw_gid)
        user = self.user if os.getuid() == 0 else None
        subprocess.run([f"{self.bin}/initdb", "-D", data, "-U", "bench", "-A", "trust", "-N"],
                       check=True, stdout=subprocess.DEVNULL, user=user)
        self.spawn([f"{self.bin}/postgres", "-D", data, "-p", str(self.pg_port), "-k", "/tmp", "-c", "fsync=off",
                    "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=100"], user)
        wait_for(self.pg_port)
        time.sleep(0.5)
        self.sql("postgres", "create database acme")
        subprocess.run(["pgbench", "-i", "-q", "-s", "5", *self.target(self.pg_port), "acme"], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def target(self, port):
        return ["-h", "127.0.0.1", "-p", str(port), "-U", "bench"]

    def sql(self, database, text):
        subprocess.run(["psql", "-w", "-q", *self.target(self.pg_port), "-d", database, "-c", text], check=True,
                       stdin=subprocess.DEVNULL)

    def pgbouncer(self, wrapper=()):
        port, path = free_port(), os.path.join(self.dir, "pgbouncer.ini")
        with open(path, "w") as f:
            f.write(f"""[databases]
acme = host=127.0.0.1 port={self.pg_port} dbname=acme user=bench
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 5000
""")
        user = self.user if os.getuid() == 0 else None
        process = self.spawn([*wrapper, shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", path], user)
        wait_for(port)
        return process, port

    def tenantry(self, wrapper=()):
        port, path = free_port(), os.path.join(self.dir, "tenantry.toml")
        with open(path, "w") as f:
            f.write(f"""[general]
listen = ["127.0.0.1:{port}"]
max_client_conn = 5000
[clusters.main]
port = {self.pg_port}
user = "bench"
max_server_connections = 20
[auth]
type = "trust"
[users.bench]
tenants = ["*"]
[tenancy]
tenant_from = ["database"]
[tenants.acme]
database = "acme"
max_client_connections = 5000
""")
        process = self.spawn([*wrapper, os.path.join(ROOT, "target/release/tenantry"), "serve", path])
        wait_for(port)
        return process, port

    def close(self):
        for process in (p for p in reversed(self.processes) if p.poll() is None):
            process.send_signal(signal.SIGINT)
            process.wait(20)
        shutil.rmtree(self.dir)


def cpu_seconds(pid):
    tasks = glob.glob(f"/proc/{pid}/task/*/schedstat")
    return sum(int(open(task).read().split()[0]) for task in tasks) / 1e9


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
        process, port = start(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"])
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
        poolers = {"pgbouncer": rig.pgbouncer(), "tenantry": rig.tenantry()}
        for clients in args.clients:
            rows = {name: [] for name in poolers}
            for _ in range(args.rounds):
                for name, (process, port) in poolers.items():
                    rows[name].append(measure(rig, process.pid, port, clients, args.seconds, args.protocol))
            medians = {name: {key: statistics.median(row[key] for row in list_) for key in list_[0]}
                       for name, list_ in rows.items()}
            if "user" not in medians["tenantry"]:
                for name, start in (("pgbouncer", rig.pgbouncer), ("tenantry", rig.tenantry)):
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
