"""A throw-away PostgreSQL, PgBouncer and Tenantry for the benches; all of it is gone at the end.

Needs (Debian): postgresql postgresql-contrib pgbouncer openssl, and a release build (`cargo build --release`), or
another build of Tenantry in `TENANTRY_BENCH_BIN`.
"""

import argparse, glob, os, pwd, re, shutil, signal, socket, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
TRUST = """[auth]
type = "trust"
[users.bench]
tenants = ["*"]"""
STOP_SECONDS = 20
SOCKETS = "/tmp"  # where PostgreSQL has its unix socket


def tenantry_binary():
    return os.path.abspath(os.environ.get("TENANTRY_BENCH_BIN") or os.path.join(ROOT, "target/release/tenantry"))


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


def cpu_seconds(pid):
    tasks = glob.glob(f"/proc/{pid}/task/*/schedstat")
    return sum(int(open(task).read().split()[0]) for task in tasks) / 1e9


def arguments(doc, **defaults):
    """What the command line says, of whole numbers that have a default."""
    args = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        args.add_argument(f"--{name}", type=int, default=default)
    return args.parse_args()


def processed(benches):
    """Transactions that these pgbenches have done, once all have ended."""
    outputs = [bench.communicate() for bench in benches]
    return sum(int(re.search(r"actually processed: (\d+)", out).group(1)) for out, _ in outputs)


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

    def postgres(self, databases=("acme",), scale=5, settings=(), hba=(), port=None):
        """`hba`: lines before those that trust everybody."""
        data, self.pg_port = os.path.join(self.dir, "data"), port or free_port()
        os.mkdir(data, 0o700)
        owner = pwd.getpwnam(self.user)
        os.chown(data, owner.pw_uid, owner.pw_gid)
        user = self.user if os.getuid() == 0 else None
        subprocess.run([f"{self.bin}/initdb", "-D", data, "-U", "bench", "-A", "trust", "-N"],
                       check=True, stdout=subprocess.DEVNULL, user=user)
        with open(os.path.join(data, "pg_hba.conf"), "r+") as f:
            lines = [*hba, *f.read().splitlines()]
            f.seek(0)
            f.write("\n".join(lines) + "\n")
        self.start = [f"{self.bin}/postgres", "-D", data, "-p", str(self.pg_port), "-k", SOCKETS, "-c", "fsync=off",
                      "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=100",
                      *(part for setting in settings for part in ("-c", setting))], user
        self.server = self.spawn(*self.start)
        wait_for(self.pg_port)
        time.sleep(0.5)
        for database in databases:
            self.sql("postgres", f"create database {database}")
            if scale:
                subprocess.run(["pgbench", "-i", "-q", "-s", str(scale), *self.target(self.pg_port), database], check=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def restart(self, pause):
        """Stops PostgreSQL (fast) and starts it after so many seconds."""
        self.stop(self.server)
        time.sleep(pause)
        self.server = self.spawn(*self.start)
        wait_for(self.pg_port)

    def clients(self, port, tenants, seconds, script, *options):
        """A pgbench with one client for each of so many tenants: t0, t1, ..."""
        path = os.path.join(self.dir, "script.sql")
        with open(path, "w") as f:
            f.write(script)
        return [subprocess.Popen(["pgbench", "-n", "-f", path, "-c", "1", "-T", str(seconds), *options,
                                  "-h", "127.0.0.1", "-p", str(port), "-U", f"bench.t{n}", "acme"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 start_new_session=True)
                for n in range(tenants)]

    def target(self, port):
        return ["-h", "127.0.0.1", "-p", str(port), "-U", "bench"]

    def sql(self, database, text):
        subprocess.run(["psql", "-w", "-q", *self.target(self.pg_port), "-d", database, "-c", text], check=True,
                       stdin=subprocess.DEVNULL)

    def certificate(self):
        """A self-signed certificate (P-256) and its key, readable for PostgreSQL and both poolers: two paths."""
        paths = cert, key = os.path.join(self.dir, "server.crt"), os.path.join(self.dir, "server.key")
        subprocess.run(["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-subj", "/CN=localhost", "-days", "2", "-out", cert, "-keyout", key],
                       check=True, stdin=subprocess.DEVNULL, capture_output=True)
        owner = pwd.getpwnam(self.user)
        for path in paths:
            os.chmod(path, 0o600)
            os.chown(path, owner.pw_uid, owner.pw_gid)
        return paths

    def pgbouncer(self, databases, settings, wrapper=(), auth="auth_type = any", host="127.0.0.1"):
        """PgBouncer in transaction mode; anybody may be anybody, unless `auth` says otherwise. `host`: PostgreSQL's."""
        port = free_port()
        path = os.path.join(self.dir, f"pgbouncer-{port}.ini")
        lines = [f"{name} = host={host} port={self.pg_port} dbname={name} user=bench" for name in databases]
        with open(path, "w") as f:
            f.write("[databases]\n" + "\n".join(lines) + f"""
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
{auth}
pool_mode = transaction
{settings}
""")
        user = self.user if os.getuid() == 0 else None
        process = self.spawn([*wrapper, PGBOUNCER, path], user)
        wait_for(port)
        return process, port

    def tenantry(self, general, cluster, rest, wrapper=(), auth=TRUST, binary=None):
        """Tenantry with one cluster; user `bench` may be every tenant, unless `auth` says otherwise."""
        port = free_port()
        path = os.path.join(self.dir, f"tenantry-{port}.toml")
        with open(path, "w") as f:
            f.write(f"""[general]
listen = ["127.0.0.1:{port}"]
{general}
[clusters.main]
port = {self.pg_port}
user = "bench"
{cluster}
{auth}
{rest}
""")
        process = self.spawn([*wrapper, binary or tenantry_binary(), "serve", path])
        wait_for(port)
        return process, port

    def stop(self, process):
        """Asks first; a process that stays is killed."""
        self.processes.remove(process)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # A second Ctrl-C must not leave anything behind.
        for process in reversed(self.processes.copy()):
            self.stop(process)
        shutil.rmtree(self.dir)
